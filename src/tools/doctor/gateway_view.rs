//! What the gateway itself knows of the connection that was just examined, for people. Pure.

use serde_json::Value;

/// `GET /api/sessions/{id}` in lines.
pub(crate) fn lines(session: &Value) -> Vec<String> {
    let text = |name: &str| session.get(name).and_then(Value::as_str);
    let mut lines = Vec::new();
    if let Some(sentence) = text("sentence") {
        lines.push(sentence.to_owned());
    }
    let state = text("state").unwrap_or("unknown");
    let end = match (text("label"), text("by"), text("phase")) {
        (Some(label), Some(by), Some(phase)) => format!(": {label}, by the {by}, in phase {phase}"),
        _ => String::new(),
    };
    lines.push(format!("{state}{end}"));
    lines.extend(text("detail").map(|detail| format!("detail: {detail}")));
    let who = [
        "user",
        "route",
        "upstream",
        "endpoint",
        "subprotocol",
        "host",
        "path",
        "listener",
        "client",
        "via",
        "origin",
    ];
    let known: Vec<_> =
        who.iter().filter_map(|name| Some(format!("{name} {}", text(name)?))).collect();
    lines.extend((!known.is_empty()).then(|| known.join(", ")));
    lines.extend(steps(session));
    lines.extend(closes(session));
    lines.extend(traffic(session));
    lines
}

fn steps(session: &Value) -> Option<String> {
    let steps = session.get("steps")?.as_array()?;
    let taken: Vec<_> = steps
        .iter()
        .filter_map(|step| {
            let (name, ms) = (step.get("name")?.as_str()?, step.get("ms")?.as_f64()?);
            Some(format!("{name} {ms:.1} ms"))
        })
        .collect();
    (!taken.is_empty()).then(|| format!("its steps: {}", taken.join(", ")))
}

fn closes(session: &Value) -> Option<String> {
    let close = |name: &str| match session.get(name) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(code) => code.to_string(),
    };
    session.get("client_close")?;
    Some(format!(
        "Close with the client: {}, with the upstream: {}",
        close("client_close"),
        close("upstream_close")
    ))
}

fn traffic(session: &Value) -> Option<String> {
    let count = |what: &str, from: &str| session.get(what)?.get(from)?.as_u64();
    Some(format!(
        "messages from the client: {}, from the upstream: {}",
        count("messages", "from_client")?,
        count("messages", "from_upstream")?
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refused_handshake_reads_like_this() {
        let session = json!({
            "id": "00112233aabbccdd", "state": "refused", "user": null, "route": "/ws",
            "host": "chat.example", "path": "/ws", "listener": "public", "client": "127.0.0.1:5", "origin": null, "label": "token_expired", "by": "gateway",
            "phase": "admission", "detail": "the token has expired", "client_close": null,
            "upstream_close": null, "sentence": "The gateway refused it: the token has expired.",
            "steps": [{"name": "accept", "ms": 0.04}, {"name": "admission", "ms": 0.2}],
            "messages": {"from_client": 0, "from_upstream": 0},
        });
        let expected = [
            "The gateway refused it: the token has expired.",
            "refused: token_expired, by the gateway, in phase admission",
            "detail: the token has expired",
            "route /ws, host chat.example, path /ws, listener public, client 127.0.0.1:5",
            "its steps: accept 0.0 ms, admission 0.2 ms",
            "Close with the client: none, with the upstream: none",
            "messages from the client: 0, from the upstream: 0",
        ];
        assert_eq!(lines(&session), expected);
    }

    #[test]
    fn anything_else_is_no_reason_to_fail() {
        assert_eq!(lines(&json!({})), ["unknown"]);
        assert_eq!(lines(&json!({"steps": 5, "messages": [], "state": 1})), ["unknown"]);
    }
}
