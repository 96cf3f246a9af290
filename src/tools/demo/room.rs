//! The demo chat's rooms: who is in which, and what was said last.
//!
//! Everything a member is told goes through a bounded queue; a member who does not read it is
//! dropped rather than waited for. No sockets here: [`super::backend`] carries the queues to its
//! connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tungstenite::Utf8Bytes;

/// All rooms of the backend.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    state: Mutex<State>,
}

/// A place in a room. Leaving is [`Rooms::leave`]: the others are told, so it is no drop guard.
#[derive(Debug)]
pub(super) struct Member {
    room: String,
    id: u64,
    /// What this member is to be sent, JSON texts.
    pub(super) queue: mpsc::Receiver<Utf8Bytes>,
    /// Cancelled when the member was dropped for not reading.
    pub(super) dropped: CancellationToken,
}

/// The rooms are all in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("all {ROOMS} rooms are in use")]
pub(super) struct Full;

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    rooms: HashMap<String, Room>,
}

#[derive(Debug, Default)]
struct Room {
    members: HashMap<u64, Entry>,
    history: VecDeque<Value>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    queue: mpsc::Sender<Utf8Bytes>,
    dropped: CancellationToken,
}

impl Rooms {
    /// Joins `room` as `name`: the new member is told the last messages, everybody who is here.
    pub(super) fn join(&self, room: &str, name: &str) -> Result<Member, Full> {
        let mut state = self.lock();
        if state.rooms.len() >= ROOMS && !state.rooms.contains_key(room) {
            state.forget_an_empty_room()?;
        }
        state.last_id += 1;
        let id = state.last_id;
        let (sender, queue) = mpsc::channel(QUEUE);
        let dropped = CancellationToken::new();
        let entry = Entry { name: name.to_owned(), queue: sender, dropped: dropped.clone() };
        let place = state.rooms.entry(room.to_owned()).or_default();
        // A fresh queue has room for one message; presence follows to all.
        let _ = entry.queue.try_send(history(room, name, &place.history));
        place.members.insert(id, entry);
        place.tell_presence();
        Ok(Member { room: room.to_owned(), id, queue, dropped })
    }

    /// Leaves; the others are told.
    pub(super) fn leave(&self, member: &Member) {
        if let Some(room) = self.lock().rooms.get_mut(&member.room)
            && room.members.remove(&member.id).is_some()
        {
            room.tell_presence();
        }
    }

    /// Says `text` to everybody in the room of `member`, himself included; `at` is RFC 3339.
    pub(super) fn say(&self, member: &Member, text: &str, at: &str) {
        let mut state = self.lock();
        let Some(room) = state.rooms.get_mut(&member.room) else { return };
        let Some(from) = room.members.get(&member.id).map(|entry| entry.name.clone()) else {
            return;
        };
        let message = json!({ "type": "message", "from": from, "text": text, "at": at });
        if room.history.len() >= HISTORY {
            room.history.pop_front();
        }
        room.history.push_back(message.clone());
        if room.tell(&message) {
            room.tell_presence();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_an_empty_room(&mut self) -> Result<(), Full> {
        let empty = self.rooms.iter().find(|(_, room)| room.members.is_empty());
        let name = empty.map(|(name, _)| name.clone()).ok_or(Full)?;
        self.rooms.remove(&name);
        Ok(())
    }
}

impl Room {
    /// Queues `message` for every member and drops those whose queue is full; true if there were
    /// any.
    fn tell(&mut self, message: &Value) -> bool {
        let text = Utf8Bytes::from(message.to_string());
        let before = self.members.len();
        self.members.retain(|_, entry| {
            let told = entry.queue.try_send(text.clone()).is_ok();
            if !told {
                entry.dropped.cancel();
            }
            told
        });
        self.members.len() < before
    }

    /// Tells everybody who is here, again if telling it dropped somebody. Ends: each round drops
    /// one.
    fn tell_presence(&mut self) {
        loop {
            let mut tabs: BTreeMap<&str, usize> = BTreeMap::new();
            for entry in self.members.values() {
                *tabs.entry(&entry.name).or_default() += 1;
            }
            let users: Vec<Value> =
                tabs.iter().map(|(name, tabs)| json!({ "name": name, "tabs": tabs })).collect();
            if !self.tell(&json!({ "type": "presence", "users": users })) {
                return;
            }
        }
    }
}

fn history(room: &str, you: &str, messages: &VecDeque<Value>) -> Utf8Bytes {
    json!({ "type": "history", "room": room, "you": you, "messages": messages }).to_string().into()
}

/// Messages kept per room.
const HISTORY: usize = 50;
/// Rooms kept; beyond, one without members is forgotten.
const ROOMS: usize = 100;
/// Messages queued per member before it is dropped.
const QUEUE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn next(member: &mut Member) -> Value {
        serde_json::from_str(&member.queue.try_recv().unwrap()).unwrap()
    }

    #[test]
    fn a_new_member_is_told_the_last_messages_and_everybody_who_is_here() {
        let rooms = Rooms::default();
        let mut alice = rooms.join("tea", "alice").unwrap();
        assert_eq!(next(&mut alice)["you"], "alice");
        assert_eq!(next(&mut alice)["users"], json!([{ "name": "alice", "tabs": 1 }]));
        for number in 0..60 {
            rooms.say(&alice, &number.to_string(), "2026-11-21T08:00:00Z");
        }
        let mut bob = rooms.join("tea", "bob").unwrap();
        let told = next(&mut bob);
        assert_eq!(told["messages"].as_array().unwrap().len(), 50);
        assert_eq!(told["messages"][0]["text"], "10");
        assert_eq!(told["messages"][49]["from"], "alice");
        let here = next(&mut bob);
        assert_eq!(here["users"][0]["name"], "alice");
        assert_eq!(here["users"][1]["name"], "bob");
    }

    #[test]
    fn tabs_of_one_user_are_counted_and_leaving_is_told() {
        let rooms = Rooms::default();
        let mut first = rooms.join("tea", "alice").unwrap();
        let second = rooms.join("tea", "alice").unwrap();
        let (_, _) = (next(&mut first), next(&mut first));
        assert_eq!(next(&mut first)["users"], json!([{ "name": "alice", "tabs": 2 }]));
        rooms.leave(&second);
        assert_eq!(next(&mut first)["users"], json!([{ "name": "alice", "tabs": 1 }]));
        rooms.leave(&second);
        assert!(first.queue.try_recv().is_err(), "leaving twice tells nothing");
    }

    #[test]
    fn rooms_do_not_hear_each_other() {
        let rooms = Rooms::default();
        let mut tea = rooms.join("tea", "alice").unwrap();
        let coffee = rooms.join("coffee", "bob").unwrap();
        let (_, _) = (next(&mut tea), next(&mut tea));
        rooms.say(&coffee, "hello", "");
        assert!(tea.queue.try_recv().is_err());
    }

    #[test]
    fn a_member_who_does_not_read_is_dropped_and_the_others_are_told() {
        let rooms = Rooms::default();
        let slow = rooms.join("tea", "slow").unwrap();
        let mut quick = rooms.join("tea", "quick").unwrap();
        for _ in 0..QUEUE + 1 {
            rooms.say(&quick, "hello", "");
            while let Ok(text) = quick.queue.try_recv() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if slow.dropped.is_cancelled() && message["type"] == "presence" {
                    assert_eq!(message["users"], json!([{ "name": "quick", "tabs": 1 }]));
                    return;
                }
            }
        }
        panic!("the slow member is still there");
    }

    #[test]
    fn only_rooms_without_members_are_forgotten() {
        let rooms = Rooms::default();
        let members: Vec<Member> =
            (0..ROOMS).map(|n| rooms.join(&format!("room{n}"), "alice").unwrap()).collect();
        assert_eq!(rooms.join("one-more", "bob").unwrap_err(), Full);
        rooms.leave(&members[3]);
        assert!(rooms.join("one-more", "bob").is_ok());
        assert!(!rooms.lock().rooms.contains_key("room3"));
    }
}
