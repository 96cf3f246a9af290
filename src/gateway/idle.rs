//! Kept connections that wait for a further request: where the gateway is full, they go first. No I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::admission::limits::Place;

/// All of them, the one that has waited longest first.
#[derive(Debug, Default)]
pub(crate) struct IdleConnections(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    places: BTreeMap<u64, Parked>,
}

#[derive(Debug)]
struct Parked {
    place: Place,
    revoked: CancellationToken,
}

/// A connection's place while it waits; given up on drop.
#[derive(Debug)]
pub(crate) struct ParkedPlace {
    of: Arc<IdleConnections>,
    number: u64,
    revoked: CancellationToken,
}

impl IdleConnections {
    /// A connection begins to wait: its place may be given to another.
    pub(crate) fn park(self: &Arc<Self>, place: Place) -> ParkedPlace {
        let revoked = CancellationToken::new();
        let mut waiting = self.waiting();
        waiting.last += 1;
        let number = waiting.last;
        waiting.places.insert(number, Parked { place, revoked: revoked.clone() });
        ParkedPlace { of: Arc::clone(self), number, revoked }
    }

    /// The place of the connection that has waited longest, which is closed for it.
    pub(crate) fn revoke(&self) -> Option<Place> {
        let (_, Parked { place, revoked }) = self.waiting().places.pop_first()?;
        revoked.cancel();
        Some(place)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ParkedPlace {
    /// Resolves when the place has been given to another.
    pub(crate) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }

    /// The connection waits no more; `None` when its place has been given to another.
    pub(crate) fn reclaim(self) -> Option<Place> {
        self.of.waiting().places.remove(&self.number).map(|parked| parked.place)
    }
}

impl Drop for ParkedPlace {
    fn drop(&mut self) {
        // After `reclaim` there is nothing left to remove.
        self.of.waiting().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::limits::Places;

    #[test]
    fn the_longest_waiting_gives_up_its_place() {
        let places = Arc::new(Places::default());
        let idle = Arc::new(IdleConnections::default());
        let take = || places.take(3).unwrap();
        let [first, second, third] = [take(), take(), take()].map(|place| idle.park(place));
        drop(first);
        assert_eq!(places.taken(), 2);
        let revoked = idle.revoke().unwrap();
        assert!(second.revoked.is_cancelled() && !third.revoked.is_cancelled());
        assert!(second.reclaim().is_none(), "it is another's now");
        let reclaimed = third.reclaim().unwrap();
        assert!(idle.revoke().is_none());
        assert_eq!(places.taken(), 2);
        drop((revoked, reclaimed));
        assert_eq!(places.taken(), 0);
    }
}
