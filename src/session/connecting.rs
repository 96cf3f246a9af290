//! Handshakes that are being decided, so that one that hangs can be seen before it is over. No I/O.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dashmap::DashMap;

use super::id::SessionId;
use super::record::Facts;

/// All that are under way.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(DashMap<SessionId, Arc<Handshake>>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// When its request had been read.
    pub(crate) since: Instant,
    known: Mutex<Arc<Facts>>,
}

/// A handshake's entry, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listed {
    all: Arc<Handshakes>,
    handshake: Arc<Handshake>,
    id: SessionId,
}

impl Handshakes {
    /// Lists a handshake of which this is known.
    pub(crate) fn begin(self: &Arc<Self>, facts: &Facts, now: Instant) -> Listed {
        let handshake =
            Arc::new(Handshake { since: now, known: Mutex::new(Arc::new(facts.clone())) });
        self.0.insert(facts.id, Arc::clone(&handshake));
        Listed { all: Arc::clone(self), handshake, id: facts.id }
    }

    /// One by its id.
    pub(crate) fn get(&self, id: SessionId) -> Option<Arc<Handshake>> {
        self.0.get(&id).map(|entry| Arc::clone(&entry))
    }

    /// All at this moment.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Handshake>> {
        self.0.iter().map(|entry| Arc::clone(&entry)).collect()
    }
}

impl Handshake {
    /// What is known of it.
    pub(crate) fn known(&self) -> Arc<Facts> {
        Arc::clone(&self.place())
    }

    fn place(&self) -> MutexGuard<'_, Arc<Facts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// More is known: it has come a step further.
    pub(crate) fn update(&self, facts: &Facts) {
        *self.handshake.place() = Arc::new(facts.clone());
    }

    /// What is known.
    pub(crate) fn known(&self) -> Arc<Facts> {
        self.handshake.known()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.all.0.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_handshake_is_listed_with_what_is_known_until_it_is_decided() {
        let all = Arc::new(Handshakes::default());
        let client = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut facts = Facts::new(SessionId::new(7), "l".into(), client, SystemTime::UNIX_EPOCH);
        let listed = all.begin(&facts, Instant::now());
        assert_eq!(all.snapshot().len(), 1);
        facts.user = Some("ann".into());
        assert_eq!(all.get(facts.id).unwrap().known().user, None);
        listed.update(&facts);
        assert_eq!(all.get(facts.id).unwrap().known().user.as_deref(), Some("ann"));
        assert_eq!(listed.known().user.as_deref(), Some("ann"));
        drop(listed);
        assert!(all.snapshot().is_empty() && all.get(facts.id).is_none());
    }
}
