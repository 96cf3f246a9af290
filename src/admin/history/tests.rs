//! Steps, windows, and what is forgotten.

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A gateway that accepts one, refuses two (forbidden) and ends three (kicked) a second.
fn reading(second: u64) -> Reading {
    let mut reading = Reading {
        sessions: second % 7,
        connections: second % 11,
        accepted: second,
        messages: [10 * second, 20 * second],
        bytes: [1000 * second, 0],
        ..Reading::default()
    };
    let forbidden = refusals().position(|label| label == Label::Forbidden).unwrap();
    reading.refused[forbidden] = 2 * second;
    let kicked = endings().position(|label| label == Label::Kicked).unwrap();
    reading.ended[kicked] = 3 * second;
    // Half of them within a millisecond, half between 5 and 10.
    for stage in &mut reading.stages {
        stage.0[1] = u32::try_from(second).unwrap();
        stage.0[4] = u32::try_from(second).unwrap();
    }
    reading
}

fn after(steps: u64) -> History {
    let mut history = History::default();
    for step in 1..=steps {
        history.record(seconds(5 * step), &reading(5 * step));
    }
    history
}

fn column(rows: &[Value], name: &str) -> Vec<f64> {
    let at = COLUMNS.iter().position(|column| *column == name).unwrap();
    rows.iter().map(|row| row[at].as_f64().unwrap()).collect()
}

#[test]
fn a_row_says_what_happened_in_its_step() {
    let rows = after(2).rows(0);
    let table = [
        ("at_s", [5.0, 10.0]),
        ("step_s", [5.0, 5.0]),
        ("sessions", [5.0, 3.0]),
        ("connections", [5.0, 10.0]),
        ("accepted", [5.0, 5.0]),
        ("refused", [10.0, 10.0]),
        ("ended_by_client", [0.0, 0.0]),
        ("ended_by_upstream", [0.0, 0.0]),
        ("ended_by_gateway", [0.0, 0.0]),
        ("ended_by_admin", [15.0, 15.0]),
        ("messages_from_client", [50.0, 50.0]),
        ("messages_from_upstream", [100.0, 100.0]),
        ("bytes_from_client", [5000.0, 5000.0]),
        ("bytes_from_upstream", [0.0, 0.0]),
        ("p50_ms", [1.0, 1.0]),
        ("p99_ms", [9.9, 9.9]),
    ];
    assert_eq!(table.map(|(name, _)| name), COLUMNS);
    for (name, expected) in table {
        assert_eq!(column(&rows, name), expected, "{name}");
    }
}

#[test]
fn nothing_measured_is_no_latency_of_zero() {
    let mut history = History::default();
    history.record(seconds(5), &Reading::default());
    assert_eq!(history.rows(0)[0][14], Value::Null);
}

#[test]
fn only_new_rows_are_given_to_who_has_the_others() {
    let mut history = History::default();
    assert_eq!(history.rows(0), Vec::<Value>::new());
    let mut seen = history.next();
    let mut collected = Vec::new();
    for step in 1..=1000 {
        history.record(seconds(5 * step), &reading(5 * step));
        // Sometimes nobody looks for a while.
        if step % 3 == 0 || step > 990 {
            collected.extend(history.rows(seen));
            seen = history.next();
        }
    }
    let times: Vec<_> = (1..=1000).map(|step| f64::from(5 * step)).collect();
    assert_eq!(column(&collected, "at_s"), times);
    assert_eq!(history.rows(seen), Vec::<Value>::new());
}

#[test]
fn an_hour_is_kept_and_no_more() {
    let history = after(5000);
    assert_eq!(history.rows(0).len(), 720);
    let times = column(&history.rows(0), "at_s");
    assert_eq!((times[0], times[719]), (25_000.0 - 3600.0 + 5.0, 25_000.0));
    assert_eq!(history.minutes.len(), MINUTES);
    assert!(history.points.capacity() <= POINTS.next_power_of_two());
    println!("{} bytes at most", History::most_bytes());
    assert!(History::most_bytes() < 400 * 1024, "{} bytes", History::most_bytes());
}

#[test]
fn the_number_of_another_process_gets_everything() {
    assert_eq!(after(10).rows(5000).len(), 10);
}

#[test]
fn a_window_is_what_happened_within_it() {
    let history = after(2000);
    for (length, expected) in [(300, 302), (3600, 3602), (100_000, 3602)] {
        // Two seconds after the last step.
        let window = history.window(seconds(10_002), &reading(10_002), seconds(length));
        let covered = window.length.as_secs();
        assert!(covered.abs_diff(expected) <= 5, "{covered} s of {length}");
        assert_eq!(window.accepted, covered);
        assert_eq!(window.refused().collect::<Vec<_>>(), [(Label::Forbidden, 2 * covered as u32)]);
        assert_eq!(window.ended().collect::<Vec<_>>(), [(Label::Kicked, 3 * covered as u32)]);
        assert_eq!((window.ended_by(By::Admin), window.ended_by(By::Client)), (3 * covered, 0));
        assert_eq!(window.messages, [10 * covered, 20 * covered]);
        let of_stages = window.stages_length.as_secs();
        assert!(of_stages >= covered && of_stages <= covered + 60, "{of_stages} s of {length}");
        assert_eq!(window.stages[0].count(), 2 * of_stages);
    }
}

#[test]
fn a_young_process_has_a_short_window_and_forgets_nothing() {
    let window = History::default().window(seconds(3), &reading(3), seconds(3600));
    assert_eq!((window.length, window.accepted), (seconds(3), 3));
    assert_eq!((window.stages_length, window.stages[4].count()), (seconds(3), 6));
}

#[test]
fn a_late_step_is_a_long_one() {
    let mut history = History::default();
    history.record(seconds(65), &reading(65));
    assert_eq!(column(&history.rows(0), "step_s"), [65.0]);
    assert_eq!(column(&history.rows(0), "accepted"), [65.0]);
}

#[test]
fn counts_past_32_bits_go_on() {
    let high = u64::from(u32::MAX) - 1;
    let with = |accepted| Reading { accepted, ..Reading::default() };
    let mut history = History::default();
    history.record(seconds(5), &with(high));
    history.record(seconds(10), &with(high + 7));
    assert_eq!(column(&history.rows(0), "accepted")[1], 7.0);
}
