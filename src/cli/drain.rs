//! `framegate drain`: closing some sessions of a running gateway, which serves on. I/O.

use serde_json::Value;

use super::Exit;
use super::admin_client::{AdminArgs, AdminClient, AdminError, Answered, encoded, query};
use super::arguments::{self, Percent, Span};
use super::sessions::tell;
use crate::telemetry::escape::printable;

/// `framegate drain`'s arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["percent", "upstream"])))]
pub(crate) struct DrainArgs {
    /// Close this share of all sessions, whichever; 0 ends such a drain that is under way
    #[arg(long, value_name = "P", value_parser = arguments::percent)]
    percent: Option<Percent>,
    /// With --endpoint: close the sessions on that endpoint and send nobody there any more
    #[arg(long, value_name = "NAME", requires = "endpoint")]
    upstream: Option<String>,
    /// Which endpoint of --upstream, counted from 0 in the order of the configuration
    #[arg(long, value_name = "N", requires = "upstream")]
    endpoint: Option<usize>,
    /// Send new sessions to the endpoint again
    #[arg(long, requires = "upstream", conflicts_with = "window")]
    undo: bool,
    /// Spread the closes over this time, e.g. 10m [default: drain.window]
    #[arg(long, value_name = "W", value_parser = arguments::span)]
    window: Option<Span>,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) async fn drain(args: &DrainArgs) -> Exit {
    let show = if args.upstream.is_some() { endpoint } else { share };
    tell(&args.admin, ask(args).await, show)
}

async fn ask(args: &DrainArgs) -> Result<Answered, AdminError> {
    let client = AdminClient::new(&args.admin)?;
    let window = ("window", args.window.map(|window| window.to_string()));
    let Some(upstream) = &args.upstream else {
        let query = query(&[("percent", args.percent.map(|percent| percent.to_string())), window]);
        return client.post(&format!("/api/drain{query}")).await;
    };
    let (upstream, n) = (encoded(upstream), args.endpoint.unwrap_or_default());
    let path = format!("/api/upstreams/{upstream}/endpoints/{n}/drain");
    if args.undo {
        return client.delete(&path).await;
    }
    client.post(&format!("{path}{}", query(&[window]))).await
}

fn share(answer: &Value) -> String {
    let window = answer["window_s"].as_f64().unwrap_or_default();
    match sessions(answer) {
        0 => "nobody is closed\n".to_owned(),
        1 => format!("1 session is closed within {window} s\n"),
        count => format!("{count} sessions are closed one by one within {window} s\n"),
    }
}

fn endpoint(answer: &Value) -> String {
    let text = |name: &str| printable(answer[name].as_str().unwrap_or_default()).into_owned();
    let name = format!("endpoint {} of upstream {}", text("endpoint"), text("upstream"));
    let on_it = match sessions(answer) {
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    if answer["draining"] == true {
        let told = format!("{name} gets no new sessions; {on_it} on it to close\n");
        // An older gateway does not say.
        if answer["left"] == 0 {
            told + "nobody else is left: new connections are refused until one is filled again (--undo) or healthy\n"
        } else {
            told
        }
    } else {
        format!("{name} gets new sessions again; {on_it} on it\n")
    }
}

fn sessions(answer: &Value) -> u64 {
    answer["sessions"].as_u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let shares =
            [(0, "nobody"), (1, "1 session is closed within 2.5 s"), (7, "7 sessions are")];
        for (count, expected) in shares {
            let told = share(&json!({ "sessions": count, "window_s": 2.5 }));
            assert!(told.starts_with(expected), "{told}");
        }
        let answer = |draining, sessions| json!({ "upstream": "chat", "endpoint": "http://a\u{1b}", "draining": draining, "sessions": sessions, "left": sessions });
        assert_eq!(
            endpoint(&answer(true, 1)),
            "endpoint http://a\\u{1b} of upstream chat gets no new sessions; 1 session on it to close\n"
        );
        assert!(endpoint(&answer(true, 0)).contains("\nnobody else is left: "));
        assert_eq!(
            endpoint(&answer(false, 0)),
            "endpoint http://a\\u{1b} of upstream chat gets new sessions again; 0 sessions on it\n"
        );
    }
}
