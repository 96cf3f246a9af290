//! What a source goes on knowing over reloads, and who waits for what.

use std::path::PathBuf;

use jsonwebtoken::{Algorithm, DecodingKey};

use super::*;
use crate::admission::keys::VerificationKey;
use crate::config::JwksSource;
use crate::telemetry::testing;

fn verifier(name: &str) -> Verifier {
    Verifier { name: name.into(), jwks: None, ..testing::verifier() }
}

fn jwks(file: &str, refresh: u64) -> Jwks {
    Jwks {
        source: JwksSource::File(PathBuf::from(file)),
        refresh: Duration::from_secs(refresh),
        timeout: Duration::from_secs(3),
        cooldown: Duration::from_secs(30),
        stale: Duration::from_secs(3600),
        ca: None,
    }
}

fn fetched(kid: &str) -> Fetched {
    let key = VerificationKey {
        kid: Some(kid.to_owned()),
        algorithm: Algorithm::HS256,
        key: DecodingKey::from_secret(b"x"),
        not_after: None,
    };
    Fetched { keys: KeySet::new(vec![key]), at: Instant::now(), unix: 7 }
}

fn kid(source: &KeySource) -> Option<String> {
    source.last().and_then(|fetched| fetched.keys.keys()[0].kid.clone())
}

fn refused() -> Result<Fetched, FetchError> {
    Err(crate::fetch::FetchError::Unreachable("refused".to_owned()).into())
}

#[test]
fn a_source_is_known_again_by_its_settings_and_its_keys_by_where_they_came_from() {
    let table = SourceTable::default();
    let users = verifier("users");
    let source = table.source(&users, &jwks("a", 600));
    source.begin();
    source.end(Ok(fetched("1")));
    let same = table.source(&users, &jwks("a", 600));
    assert!(Arc::ptr_eq(&source, &same));
    // Other times: another source with the same keys.
    let faster = table.source(&users, &jwks("a", 60));
    assert!(!Arc::ptr_eq(&source, &faster));
    assert_eq!(kid(&faster).as_deref(), Some("1"));
    // Another place, or another verifier: nothing is known.
    let elsewhere = table.source(&users, &jwks("b", 600));
    assert_eq!(kid(&elsewhere), None);
    let trusting_others = Jwks { ca: Some("ca.pem".into()), ..jwks("a", 600) };
    assert_eq!(kid(&table.source(&users, &trusting_others)), None);
    assert_eq!(kid(&table.source(&verifier("others"), &jwks("a", 600))), None);
    // Of several the newest.
    faster.begin();
    faster.end(Ok(fetched("2")));
    assert_eq!(kid(&table.source(&users, &jwks("a", 6))).as_deref(), Some("2"));
    // What nobody uses is forgotten.
    drop((source, same, faster));
    assert_eq!(kid(&table.source(&users, &jwks("a", 600))), None);
    assert_eq!(table.0.lock().unwrap().len(), 2);
}

#[test]
fn keys_that_are_too_old_are_not_given_out() {
    let table = SourceTable::default();
    let source = table.source(&verifier("users"), &jwks("a", 600));
    assert!(source.current(Instant::now()).is_none());
    let set = fetched("1");
    let at = set.at;
    source.begin();
    source.end(Ok(set));
    assert!(source.current(at + Duration::from_secs(3599)).is_some());
    assert!(source.current(at + Duration::from_secs(3600)).is_none());
    // A failure takes nothing away, and is remembered until a fetch succeeds.
    source.begin();
    source.end(refused());
    assert!(source.current(at + Duration::from_secs(3599)).is_some());
    assert_eq!(source.last_error().as_deref(), Some("refused"));
    source.begin();
    source.end(Ok(fetched("2")));
    assert_eq!(source.last_error(), None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_at_the_end_of_the_fetch_or_when_the_time_is_over() {
    let table = SourceTable::default();
    let source = table.source(&verifier("users"), &jwks("a", 600));
    let number = source.ask(0, Instant::now()).unwrap();
    source.wanted().await;
    let soon = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
    assert!(!source.ended(number, soon).await, "nobody fetches");
    source.begin();
    let soon = tokio::time::Instant::now().into_std() + Duration::from_secs(3);
    let (ended, ()) = tokio::join!(source.ended(number, soon), async { source.end(refused()) });
    assert!(ended);
    // The first would have come anyway; the next uses the cooldown up.
    assert_eq!(source.ask(number, Instant::now()), Some(2));
    source.begin();
    source.end(refused());
    assert!(source.ask(2, Instant::now()).is_none(), "not again so soon");
    // What was wanted and not begun is not forgotten.
    source.want();
    source.wanted().await;
}
