//! Mistakes and exactly what is said about them.

use super::*;

/// Puts `text` in place of a line of [`GOOD`] (14: behind it) and requires exactly these problems.
#[track_caller]
fn requires(replaced: usize, text: &str, expected: &[(&str, usize, &str)]) {
    let mut lines: Vec<&str> = GOOD.lines().chain([""]).collect();
    lines[replaced - 1] = text;
    let problems = parse(&lines.join("\n")).map_or_else(|problems| problems, |_| Vec::new());
    let found: Vec<_> =
        problems.iter().map(|problem| (problem.path.as_str(), problem.line)).collect();
    let places: Vec<_> = expected.iter().map(|(path, line, _)| (*path, Some(*line))).collect();
    assert_eq!(found, places, "{text}\n{}", listed(&problems));
    for (problem, (_, _, fragment)) in problems.iter().zip(expected) {
        assert!(problem.message.contains(fragment), "{text}\n{problem}\nlacks {fragment:?}");
    }
}

/// Rows: the line replaced, what stands there, then path, line and a part of the message.
#[track_caller]
fn table(rows: &[(usize, &str, &str, usize, &str)]) {
    for (replaced, text, path, line, fragment) in rows {
        requires(*replaced, text, &[(path, *line, fragment)]);
    }
}

#[test]
fn text_that_is_not_toml_is_one_problem_with_its_line() {
    table(&[
        (12, "upstream = chat", "", 12, "not TOML"),
        (13, "verifier = \"users", "", 13, "not TOML"),
        (12, "path = '/x'", "", 12, "duplicate key \"path\""),
        (10, "[[route]", "", 10, "not TOML"),
        (14, "[verifiers.users]", "", 14, "duplicate key \"users\""),
    ]);
}

#[test]
fn unknown_keys_come_with_the_key_that_was_meant() {
    table(&[
        (
            2,
            "bind = '[::]:1'\nproxy_protcol = true",
            "listener[0].proxy_protcol",
            3,
            "unknown key; did you mean \"proxy_protocol\"?",
        ),
        (
            5,
            "keys = [{ algorithm = 'ES256', file = 'x', pem = 'y' }]",
            "verifiers.users.keys[0].pem",
            5,
            "unknown key",
        ),
        (14, "[limit]\nconnections = 1", "limit", 14, "did you mean \"limits\"?"),
        (14, "[limits]\nconections = 1", "limits.conections", 15, "did you mean \"connections\"?"),
        (14, "hots = ['a']", "route[0].hots", 14, "did you mean \"hosts\"?"),
        (
            14,
            "forward = { tokens = 'keep' }",
            "route[0].forward.tokens",
            14,
            "did you mean \"token\"?",
        ),
        (14, "colour = 1", "route[0].colour", 14, "unknown key"),
        // What people look for.
        (14, "rewrite = '/x'", "route[0].rewrite", 14, "upstream_path is the path"),
        (14, "cors = true", "route[0].cors", 14, "whose pages may connect"),
        (14, "[cors]\nallow = '*'", "cors", 14, "whose pages may connect"),
        (14, "headers = {}", "route[0].headers", 14, "request_headers = {"),
        (14, "timeouts = { idle = '5m' }", "route[0].timeouts", 14, "of the whole gateway"),
        (
            14,
            "connections_per_user = 3",
            "route[0].connections_per_user",
            14,
            "belongs into `limits` of the route",
        ),
        (6, "secret = 'hush'", "verifiers.users.secret", 6, "stands in a file of its own"),
        (
            14,
            "authorize = { claim = {} }",
            "route[0].authorize.claim",
            14,
            "did you mean \"claims\"?",
        ),
        (
            14,
            "limits = { connections = 5 }",
            "route[0].limits.connections",
            14,
            "only be set in [limits]",
        ),
        (
            14,
            "limits = { pending_bytes = '1MiB' }",
            "route[0].limits.pending_bytes",
            14,
            "only be set in [limits]",
        ),
        (14, "[timeouts]\nread = '5s'", "timeouts.read", 15, "unknown key"),
        (14, "[drain]\nwindows = '5s'", "drain.windows", 15, "did you mean \"window\"?"),
        (
            14,
            "[limits]\nmessages = { rates = '1/s' }",
            "limits.messages.rates",
            15,
            "did you mean \"rate\"?",
        ),
    ]);
    // With the table's name misspelt, the references to what is in it dangle.
    requires(
        4,
        "[verifier.users]",
        &[
            ("verifier", 4, "did you mean \"verifiers\"?"),
            ("route[0].verifier", 13, "no verifier is called \"users\""),
        ],
    );
}

#[test]
fn values_of_a_wrong_type_are_told_without_the_value() {
    table(&[
        (2, "bind = 8443", "listener[0].bind", 2, "must be a string, not a whole number"),
        (2, "bind = ':1'", "listener[0].bind", 2, "did you mean \"0.0.0.0:1\""),
        (
            2,
            "bind = '[::]:1'\nproxy_protocol = 'yes'",
            "listener[0].proxy_protocol",
            3,
            "must be true or false, not a string",
        ),
        (
            2,
            "bind = '[::]:1'\ntls = true",
            "listener[0].tls",
            3,
            "must be a table, not true or false",
        ),
        (5, "keys = 'jwt.pem'", "verifiers.users.keys", 5, "must be an array, not a string"),
        (5, "keys = ['jwt.pem']", "verifiers.users.keys[0]", 5, "must be a table, not a string"),
        (
            8,
            "endpoints = 'http://a'",
            "upstreams.chat.endpoints",
            8,
            "must be an array, not a string",
        ),
        (8, "endpoints = ['http://a',\n 5]", "upstreams.chat.endpoints[1]", 9, "must be a string"),
        (14, "hosts = 'a'", "route[0].hosts", 14, "must be an array"),
        (14, "limits = 5", "route[0].limits", 14, "must be a table"),
        (
            14,
            "refuse = true",
            "route[0].refuse",
            14,
            "must be \"auto\", \"http\" or \"close\", not true or false",
        ),
        (
            14,
            "[limits]\nconnections = '10'",
            "limits.connections",
            15,
            "must be a whole number, not a string",
        ),
        (14, "[limits]\nconnections = 99999999999999999999", "limits.connections", 15, "too large"),
        (14, "[timeouts]\nclose = 5", "timeouts.close", 15, "did you mean \"5s\"?"),
        (
            14,
            "[timeouts]\nclose = 1.5",
            "timeouts.close",
            15,
            "must be a string, not a decimal number",
        ),
        (14, "[log]\naccess = 1", "log.access", 15, "must be true or false"),
    ]);
    requires(
        1,
        "[listener]",
        &[("listener", 1, "must be written with two brackets: [[listener]]")],
    );
    requires(10, "[route]", &[("route", 10, "must be written with two brackets: [[route]]")]);
    requires(
        14,
        "[close_codes]\nsubprotocol = 5",
        &[("close_codes.subprotocol", 15, "must be a table")],
    );
}

#[test]
fn listeners() {
    table(&[
        (2, "", "listener[0].bind", 1, "is missing"),
        (2, "bind = 'localhost:8443'", "listener[0].bind", 2, "did you mean \"127.0.0.1:8443\"?"),
        (2, "bind = 'systemd:'", "listener[0].bind", 2, "FileDescriptorName="),
        (
            14,
            "[[listener]]\nbind = 'systemd:a'\n[[listener]]\nbind = 'systemd:a'",
            "listener[2].bind",
            17,
            "listener[1] listens on systemd:a already",
        ),
        (14, "[admin]\nbind = 'systemd:a'", "admin.bind", 15, "only clients' listeners"),
        (14, "[admin]\ntoken_file = 'credential:a'", "admin.token_file", 15, "LoadCredential="),
        (14, "[admin]\ntoken_file = 'credential:../a'", "admin.token_file", 15, "credential:NAME"),
        (
            2,
            "bind = '[::]:1'\nproxy_protocol = true",
            "listener[0].proxy_protocol",
            3,
            "trusted_proxies",
        ),
        (
            2,
            "bind = '[::]:1'\ntrusted_proxies = ['10.0.0.0/33']",
            "listener[0].trusted_proxies[0]",
            3,
            "must be a network or an address",
        ),
        (2, "bind = '[::]:1'\ntls = {}", "listener[0].tls.certificates", 3, "is missing"),
        (
            2,
            "bind = '[::]:1'\ntls = { certificates = [] }",
            "listener[0].tls.certificates",
            3,
            "must not be empty",
        ),
        (
            2,
            "bind = '[::]:1'\ntls = { certificates = [{ chain = 'a' }] }",
            "listener[0].tls.certificates[0].key",
            3,
            "is missing",
        ),
        (
            2,
            "bind = '[::]:1'\ntls = { certificates = [{ chain = 'a', key = '' }] }",
            "listener[0].tls.certificates[0].key",
            3,
            "must not be empty",
        ),
        (
            2,
            "bind = '[::]:1'\n[listener.tls]\ncertificates = [{ chain = 'a', key = 'b' }]\nmin_version = '1.1'",
            "listener[0].tls.min_version",
            5,
            "\"1.2\" or \"1.3\"",
        ),
        (
            14,
            "[[listener]]\nbind = '0.0.0.0:8443'",
            "listener[1].bind",
            15,
            "listener[0] listens on 0.0.0.0:8443 already",
        ),
        (
            14,
            "[admin]\nbind = '0.0.0.0:8443'\ntoken_file = 't'",
            "admin.bind",
            15,
            "listener[0] listens on",
        ),
        (14, "[admin]\nbind = '0.0.0.0:9901'", "admin.token_file", 14, "is required"),
        (14, "[admin]\nbind = 'unix:'", "admin.bind", 15, "must name a socket"),
        (
            14,
            "[admin]\nbind = 'localhost:9901'",
            "admin.bind",
            15,
            "did you mean \"127.0.0.1:9901\"?",
        ),
        (14, "[admin]\nhosts = ['gate:9901']", "admin.hosts[0]", 15, "did you mean \"gate\"?"),
    ]);
    let ephemeral = GOOD.replace("0.0.0.0:8443", "127.0.0.1:0");
    good(&format!("{ephemeral}\n[[listener]]\nbind = '127.0.0.1:0'\n"));
}

#[test]
fn verifiers() {
    let key = |rest: &str| format!("keys = [{{ file = 'x', {rest} }}]");
    for (rest, path, fragment) in [
        (
            "algorithm = 'none'",
            "verifiers.users.keys[0].algorithm",
            "without a signature are never accepted",
        ),
        (
            "algorithm = 'None'",
            "verifiers.users.keys[0].algorithm",
            "without a signature are never accepted",
        ),
        ("algorithm = 'es256'", "verifiers.users.keys[0].algorithm", "did you mean \"ES256\"?"),
        ("algorithm = 'ES512'", "verifiers.users.keys[0].algorithm", "must be \"HS256\""),
        ("kid = 'a'", "verifiers.users.keys[0].algorithm", "is missing"),
        ("algorithm = 'ES256', kid = ''", "verifiers.users.keys[0].kid", "must not be empty"),
    ] {
        requires(5, &key(rest), &[(path, 5, fragment)]);
    }
    table(&[
        (5, "", "verifiers.users.keys", 4, "is missing"),
        (5, "keys = []", "verifiers.users.keys", 5, "must not be empty"),
        (5, "keys = [{ algorithm = 'HS256' }]", "verifiers.users.keys[0].file", 5, "is missing"),
        (
            5,
            "keys = [{ algorithm = 'HS256', file = '''-----BEGIN\nx''' }]",
            "verifiers.users.keys[0].file",
            5,
            "not its content",
        ),
        (
            5,
            "keys = [\n{ kid = 'a', algorithm = 'ES256', file = 'x' },\n{ kid = 'a', algorithm = 'ES256', file = 'y' }]",
            "verifiers.users.keys[1].kid",
            7,
            "the same kid and algorithm",
        ),
        (5, "jwks = {}", "verifiers.users.jwks.url", 5, "is missing"),
        (5, "jwks = 'https://id.example.com/'", "verifiers.users.jwks", 5, "must be a table"),
        (5, "jwks = { url = '' }", "verifiers.users.jwks.url", 5, "must not be empty"),
        (5, "jwks = { url = 'file:' }", "verifiers.users.jwks.url", 5, "must name a file"),
        (
            5,
            "jwks = { url = 'http://id.example.com/' }",
            "verifiers.users.jwks.url",
            5,
            "plain http, and not on this machine's loopback",
        ),
        (5, "jwks = { url = 'x', stale = '5m' }", "verifiers.users.jwks.stale", 5, "`refresh`"),
        (5, "jwks = { url = 'x', cooldown = 0 }", "verifiers.users.jwks.cooldown", 5, "than 0"),
        (5, "jwks = { url = 'x', jku = 'y' }", "verifiers.users.jwks.jku", 5, "unknown key"),
        (
            5,
            "keys = [{ algorithm = 'HS256', file = 'x', not_after = 2026-12-01 }]",
            "verifiers.users.keys[0].not_after",
            5,
            "with its offset from UTC",
        ),
        (
            5,
            "keys = [{ algorithm = 'HS256', file = 'x', not_after = '2026-12-01T00:00:00' }]",
            "verifiers.users.keys[0].not_after",
            5,
            "with its offset from UTC",
        ),
        (
            5,
            "keys = [{ algorithm = 'HS256', file = 'x', not_after = 5 }]",
            "verifiers.users.keys[0].not_after",
            5,
            "must be a time such as",
        ),
        (6, "leeway = 'soon'", "verifiers.users.leeway", 6, "must be a whole number and a unit"),
        (6, "user_claim = ''", "verifiers.users.user_claim", 6, "must not be empty"),
        (
            6,
            "required_claims = { at = 1979-05-27 }",
            "verifiers.users.required_claims.at",
            6,
            "cannot stand in a token",
        ),
        (6, "sources = []", "verifiers.users.sources", 6, "must not be empty"),
        (
            6,
            "sources = ['header', 'cookie']",
            "verifiers.users.sources[1]",
            6,
            "did you mean \"cookie:NAME\"?",
        ),
        (6, "sources = ['headr']", "verifiers.users.sources[0]", 6, "did you mean \"header\"?"),
        (6, "sources = ['query:t', 'query:t']", "verifiers.users.sources[1]", 6, "is there twice"),
        (6, "issuers = ['']", "verifiers.users.issuers[0]", 6, "must not be empty"),
        (
            6,
            "[verifiers.none]\nkeys = [{ algorithm = 'HS256', file = 'x' }]",
            "verifiers.none",
            6,
            "call it something else",
        ),
    ]);
    // The same kid for another algorithm, or none at all twice, is how keys are changed.
    for keys in [
        "{ kid = 'a', algorithm = 'ES256', file = 'x' }, { kid = 'a', algorithm = 'ES384', file = 'y' }",
        "{ algorithm = 'ES256', file = 'x' }, { algorithm = 'ES256', file = 'y' }",
    ] {
        requires(5, &format!("keys = [{keys}]"), &[]);
    }
}

#[test]
fn upstreams() {
    let endpoint = "upstreams.chat.endpoints[0]";
    table(&[
        (8, "", "upstreams.chat.endpoints", 7, "is missing"),
        (8, "endpoints = []", "upstreams.chat.endpoints", 8, "must not be empty"),
        (8, "endpoints = ['ws://a:9001']", endpoint, 8, "did you mean \"http://a:9001\"?"),
        (8, "endpoints = ['wss://a']", endpoint, 8, "did you mean \"https://a\"?"),
        (8, "endpoints = ['http://a/ws']", endpoint, 8, "did you mean \"http://a\"?"),
        (8, "endpoints = ['http://a?x']", endpoint, 8, "must have no path or query"),
        (8, "endpoints = ['a:9001']", endpoint, 8, "did you mean \"http://a:9001\"?"),
        (8, "endpoints = ['http://::1:9001']", endpoint, 8, "in brackets"),
        (8, "endpoints = ['http://a:0']", endpoint, 8, "bad port"),
        (8, "endpoints = ['http://u:p@a']", endpoint, 8, "no user or password"),
        (8, "endpoints = ['ftp://a']", endpoint, 8, "must begin with http://"),
        (
            8,
            "endpoints = ['http://a', 'http://A:80']",
            "upstreams.chat.endpoints[1]",
            8,
            "is there twice",
        ),
        (
            9,
            "balance = 'random'",
            "upstreams.chat.balance",
            9,
            "\"least_sessions\" or \"round_robin\"",
        ),
        (
            9,
            "balance = 'round-robin'",
            "upstreams.chat.balance",
            9,
            "did you mean \"round_robin\"?",
        ),
        (9, "balance = 'hash'", "upstreams.chat.balance", 9, "not supported yet"),
        (9, "connect_timeout = '0'", "upstreams.chat.connect_timeout", 9, "must be longer than 0"),
        (
            9,
            "handshake_timeout = '0s'",
            "upstreams.chat.handshake_timeout",
            9,
            "must be longer than 0",
        ),
        (9, "retries = -1", "upstreams.chat.retries", 9, "must be a whole number from 0"),
        (9, "health = { probe = 'http' }", "upstreams.chat.health.probe", 9, "must be \"tcp\""),
        (
            9,
            "health = { fall = 0 }",
            "upstreams.chat.health.fall",
            9,
            "must be a whole number from 1",
        ),
        (
            9,
            "health = { interval = '0', timeout = '0' }",
            "upstreams.chat.health.timeout",
            9,
            "must be longer than 0",
        ),
        (9, "ca = ['x']", "upstreams.chat.ca", 9, "must be a string"),
    ]);
    requires(
        9,
        "[upstreams.\"\"]\nendpoints = ['http://a']",
        &[("upstreams.\"\"", 9, "must have a name")],
    );
    // An unreadable upstream is still there: what refers to it is not wrong too.
    requires(
        7,
        "[upstreams]\nchat = 5\n[unknown]",
        &[("upstreams.chat", 8, "must be a table"), ("unknown", 9, "unknown key")],
    );
}

#[test]
fn routes() {
    table(&[
        (11, "", "route[0].path", 10, "is missing"),
        (11, "path = 'ws'", "route[0].path", 11, "must start with \"/\""),
        (11, "path = '/ws//'", "route[0].path", 11, "empty segment"),
        (11, "path = '/{a}/{a}'", "route[0].path", 11, "two parameters called \"a\""),
        (11, "path = '/{*a}/b'", "route[0].path", 11, "put it last"),
        (11, "path = '/a%2Fb'", "route[0].path", 11, "percent sign"),
        (12, "", "route[0].upstream", 10, "is missing"),
        (
            12,
            "upstream = 'chta'",
            "route[0].upstream",
            12,
            "no upstream is called \"chta\"; did you mean \"chat\"?",
        ),
        (12, "upstream = 'zzz'", "route[0].upstream", 12, "no upstream is called \"zzz\""),
        (13, "", "route[0].verifier", 10, "\"none\""),
        (
            13,
            "verifier = 'user'",
            "route[0].verifier",
            13,
            "no verifier is called \"user\"; did you mean \"users\"?",
        ),
        (13, "verifier = ''", "route[0].verifier", 13, "no verifier is called \"\""),
        (
            14,
            "parameters = { chatid = 'uuid' }",
            "route[0].parameters.chatid",
            14,
            "no parameter \"chatid\"; did you mean \"chat_id\"?",
        ),
        (
            14,
            "parameters = { chat_id = 'uid' }",
            "route[0].parameters.chat_id",
            14,
            "did you mean \"uuid\"?",
        ),
        (
            14,
            "parameters = { chat_id = '[a-z' }",
            "route[0].parameters.chat_id",
            14,
            "no regular expression: unclosed",
        ),
        (
            14,
            "hosts = ['chat.example.com:443']",
            "route[0].hosts[0]",
            14,
            "did you mean \"chat.example.com\"?",
        ),
        (14, "hosts = ['*']", "route[0].hosts[0]", 14, "leave `hosts` out"),
        (14, "hosts = ['a', 'A']", "route[0].hosts[1]", 14, "is there twice"),
        (14, "origins = ['*']", "route[0].origins[0]", 14, "leave `origins` out"),
        (14, "origins = ['https://a/']", "route[0].origins[0]", 14, "did you mean \"https://a\"?"),
        (
            14,
            "origins = ['https://a',\n'b.example']",
            "route[0].origins[1]",
            15,
            "did you mean \"https://b.example\"?",
        ),
        (14, "refuse = 'never'", "route[0].refuse", 14, "\"auto\", \"http\" or \"close\""),
        (
            14,
            "authorize = { claims = { role = [] } }",
            "route[0].authorize.claims.role",
            14,
            "must not be empty",
        ),
        (
            14,
            "authorize = { claims = { role = { a = 1 } } }",
            "route[0].authorize.claims.role",
            14,
            "must be a string",
        ),
        (
            14,
            "authorize = { claims = { role = [['a']] } }",
            "route[0].authorize.claims.role",
            14,
            "must be a string",
        ),
        (
            14,
            "authorize = { contains = { chats = 'chat' } }",
            "route[0].authorize.contains.chats",
            14,
            "did you mean \"chat_id\"?",
        ),
        (
            14,
            "forward = { token = 'drop' }",
            "route[0].forward.token",
            14,
            "\"keep\", \"strip\" or \"authorization\"",
        ),
        (
            14,
            "forward = { host = 'server' }",
            "route[0].forward.host",
            14,
            "\"client\" or \"upstream\"",
        ),
        (
            14,
            "limits = { user_scope = 'path.room' }",
            "route[0].limits.user_scope",
            14,
            "no parameter \"room\"",
        ),
        (
            14,
            "[limits]\nuser_scope = 'path.room'",
            "route[0].path",
            11,
            "which limits.user_scope counts by",
        ),
        (
            14,
            "[[route]]\npath = '/chats/{other}/ws'\nupstream = 'chat'\nverifier = 'users'",
            "route[1].path",
            15,
            "route[0] answers to the same host and path",
        ),
        (
            13,
            "verifier = 'none'\nauthorize = { claims = { role = 'a' } }",
            "route[0].authorize",
            14,
            "verifier = \"none\"",
        ),
        (
            13,
            "verifier = 'none'\nforward = { token = 'strip' }",
            "route[0].forward.token",
            14,
            "verifier = \"none\"",
        ),
        (
            13,
            "verifier = 'none'\nforward = { claims = ['role'] }",
            "route[0].forward.claims",
            14,
            "verifier = \"none\"",
        ),
    ]);
    let other_host = "hosts = ['a']\n[[route]]\npath = '/chats/{chat_id}/ws'\nupstream = 'chat'\nverifier = 'users'";
    requires(14, other_host, &[]);
    requires(
        14,
        &format!("{other_host}\nhosts = ['b', 'a']"),
        &[("route[1].path", 16, "same host and path")],
    );
    // Without users, nothing is counted by user.
    requires(13, "verifier = 'none'\n[limits]\nuser_scope = 'path.room'", &[]);
}

#[test]
fn limits_and_the_rest() {
    table(&[
        (14, "[limits]\nconnections = 0", "limits.connections", 15, "from 1 to 10000000"),
        (
            14,
            "[limits]\nconnections_per_address = -1",
            "limits.connections_per_address",
            15,
            "from 0",
        ),
        (
            14,
            "[limits]\nconnections_per_user = 4294967296",
            "limits.connections_per_user",
            15,
            "to 4294967295",
        ),
        (
            14,
            "[limits]\nhandshakes_per_address = { rate = '20' }",
            "limits.handshakes_per_address.rate",
            15,
            "per second, minute or hour",
        ),
        (
            14,
            "[limits]\nhandshakes_per_address = { burst = 0 }",
            "limits.handshakes_per_address.burst",
            15,
            "from 1",
        ),
        (14, "[limits]\nmessage_size = '1MB'", "limits.message_size", 15, "did you mean \"1MiB\"?"),
        (14, "[limits]\nmessage_size = 0", "limits.message_size", 15, "at least 1 byte"),
        (
            14,
            "[limits]\nupstream_message_size = '0'",
            "limits.upstream_message_size",
            15,
            "at least 1 byte",
        ),
        (
            14,
            "[limits]\nupstream_message_size = true",
            "limits.upstream_message_size",
            15,
            "must be a string",
        ),
        (14, "[limits]\npending_bytes = -5", "limits.pending_bytes", 15, "whole number of bytes"),
        (14, "[limits]\nfragments = 0", "limits.fragments", 15, "from 1"),
        (14, "[limits]\nuser_scope = 'routes'", "limits.user_scope", 15, "did you mean \"route\"?"),
        (
            14,
            "[limits]\nwhen_user_full = 'evict'",
            "limits.when_user_full",
            15,
            "did you mean \"evict_oldest\"?",
        ),
        (
            14,
            "[limits]\nmessages = { over = 'drop' }",
            "limits.messages.over",
            15,
            "\"pause\" or \"close\"",
        ),
        (14, "[limits]\ntext_utf8 = 'no'", "limits.text_utf8", 15, "must be true or false"),
        (
            14,
            "[timeouts]\ntls_handshake = '0'",
            "timeouts.tls_handshake",
            15,
            "must be longer than 0",
        ),
        (14, "[timeouts]\nrequest_head = 0", "timeouts.request_head", 15, "must be longer than 0"),
        (14, "[timeouts]\nwrite_stall = '2d'", "timeouts.write_stall", 15, "did you mean \"48h\"?"),
        (14, "[timeouts]\nidle = '9000h'", "timeouts.idle", 15, "too long"),
        (
            14,
            "[keepalive]\nclient_pong = '0'",
            "keepalive.client_pong",
            15,
            "must be longer than 0",
        ),
        (
            14,
            "[keepalive]\nclient_ping = '30'",
            "keepalive.client_ping",
            15,
            "did you mean \"30s\"?",
        ),
        (14, "[drain]\ncode = 1006", "drain.code", 15, "may not stand in a Close frame"),
        (14, "[drain]\ncode = 1004", "drain.code", 15, "may not stand in a Close frame"),
        (14, "[drain]\ncode = 5000", "drain.code", 15, "3000-4999"),
        (14, "[log]\nformat = 'xml'", "log.format", 15, "\"text\" or \"json\""),
        (14, "[log]\nlevel = 'warning'", "log.level", 15, "did you mean \"warn\"?"),
        (
            14,
            "[close_codes]\ntoken_expird = 4401",
            "close_codes.token_expird",
            15,
            "did you mean \"token_expired\"?",
        ),
        (
            14,
            "[close_codes]\nclient_closed = 1000",
            "close_codes.client_closed",
            15,
            "no code of its own",
        ),
        (
            14,
            "[close_codes]\nbad_request = 4400",
            "close_codes.bad_request",
            15,
            "no code of its own",
        ),
        (
            14,
            "[close_codes]\nidle = 2000",
            "close_codes.idle",
            15,
            "may not stand in a Close frame",
        ),
        (14, "[close_codes]\nidle = '4408'", "close_codes.idle", 15, "must be a whole number"),
        (
            14,
            "[close_codes.subprotocol.\"a.b\"]\nidle = 1005",
            "close_codes.subprotocol.\"a.b\".idle",
            15,
            "may not stand",
        ),
        (
            14,
            "[close_codes.subprotocol.x]\nidel = 4000",
            "close_codes.subprotocol.x.idel",
            15,
            "did you mean \"idle\"?",
        ),
        (
            14,
            "[drain]\ncode = 1012\n[close_codes]\ndrained = 4000",
            "close_codes.drained",
            17,
            "drain.code is set too",
        ),
    ]);
}

#[test]
fn only_codes_that_may_stand_in_a_close_frame_are_accepted() {
    for code in 0..=6000 {
        let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let text = format!("{GOOD}[drain]\ncode = {code}\n");
        assert_eq!(parse(&text).is_ok(), legal, "{code}");
    }
}

#[test]
fn an_empty_file_lacks_a_listener_and_a_route() {
    let problems = parse("").unwrap_err();
    assert_eq!(
        listed(&problems),
        "listener: there is no [[listener]]: the gateway listens nowhere\n\
         route: there is no [[route]]: nothing is served\n"
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = r#"
[[listener]]
bind = "localhost:8443"
proxy_protocol = true

[admin]
bind = "0.0.0.0:9901"

[verifers.users]
keys = []

[verifiers.staff]
keys = [{ algorithm = "none", file = "x" }]
leeway = 30

[upstreams.chat]
endpoints = ["ws://127.0.0.1:9001"]
retries = "1"

[[route]]
path = "/a//ws"
upstream = "chat"
verifier = "staff"

[[route]]
path = "/{id}"
parameters = { id = "integr" }
upstream = "chta"
verifier = "none"
forward = { token = "strip" }

[limits]
message_size = "1MB"
colour = "red"

[keepalive]
client_pong = "0"

[close_codes]
kickd = 4000
"#;
    let problems = parse(text).unwrap_err();
    let found: Vec<_> = problems
        .iter()
        .map(|problem| format!("{} {}", problem.line.unwrap(), problem.path))
        .collect();
    assert_eq!(
        found,
        [
            "3 listener[0].bind",
            "4 listener[0].proxy_protocol",
            "6 admin.token_file",
            "9 verifers",
            "13 verifiers.staff.keys[0].algorithm",
            "14 verifiers.staff.leeway",
            "17 upstreams.chat.endpoints[0]",
            "18 upstreams.chat.retries",
            "21 route[0].path",
            "27 route[1].parameters.id",
            "28 route[1].upstream",
            "30 route[1].forward.token",
            "33 limits.message_size",
            "34 limits.colour",
            "37 keepalive.client_pong",
            "40 close_codes.kickd",
        ]
    );
    assert_eq!(
        problems[10].to_string(),
        "line 28: route[1].upstream: no upstream is called \"chta\"; did you mean \"chat\"?"
    );
}
