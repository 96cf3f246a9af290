// A made-up night for pictures: what /api/overview and /api/sessions would say of a busy gateway with some trouble.
// Chance is seeded: two runs make the same pictures.

function chance(seed) {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

const COLUMNS = [
  "at_s", "step_s", "sessions", "connections", "accepted", "refused", "ended_by_client", "ended_by_upstream", "ended_by_gateway",
  "ended_by_admin", "messages_from_client", "messages_from_upstream", "bytes_from_client", "bytes_from_upstream", "p50_ms", "p99_ms",
];
const UP = 266_400;

/** An hour in which a backend was lost twelve minutes ago, and its clients came back. */
function rows() {
  const random = chance(7);
  let sessions = 4200;
  return Array.from({ length: 720 }, (_, at) => {
    const back = 719 - at;
    const lost = back === 144 ? 1900 : 0;
    const storm = back < 144 ? Math.exp(-(143 - back) / 18) : 0;
    const accepted = Math.round(30 + 12 * Math.sin(at / 60) + 8 * random() + 420 * storm);
    const refused = Math.round(1 + 3 * random() + 130 * storm);
    const byClient = Math.round(26 + 10 * Math.sin(at / 60) + 8 * random());
    const byGateway = Math.round(2 * random());
    sessions += accepted - byClient - byGateway - lost;
    sessions = back === 0 ? 4292 : Math.min(4300, Math.max(1500, sessions));
    const said = Math.round(sessions * (0.9 + 0.3 * random()));
    return [
      UP - 5 * back, 5, sessions, sessions + 14, accepted, refused, byClient, lost, byGateway, 0,
      said, said * 4, said * 140, said * 4 * 180, 2.1 + random() + 9 * storm, 9 + 6 * random() + 700 * storm,
    ];
  });
}

const stage = (count, p50, p99) => ({ count, p50_ms: p50, p99_ms: p99 });

function window(asked, factor, refused, ended) {
  return {
    asked_s: asked, length_s: asked, accepted: Math.round(2100 * factor), dropped: 0, unanswered: Math.round(7 * factor), refused, ended,
    messages: { from_client: 3e5 * factor, from_upstream: 12e5 * factor }, bytes: { from_client: 4e7 * factor, from_upstream: 2e8 * factor },
    stages_length_s: asked,
    stages: {
      tls: stage(2300 * factor, 3.1, 11.4), admission: stage(2300 * factor, 0.3, 0.9), upstream_connect: stage(2200 * factor, 0.4, 1.8),
      upstream_handshake: stage(2200 * factor, 2.2, 88), total: stage(2100 * factor, 6.4, 97),
    },
  };
}

export function overview(since = 0) {
  const history = rows();
  return {
    version: "0.1.0", ready: true, unready: [], draining: false, now: "2026-11-21T03:07:12.345Z", started: "2026-11-18T01:07:12.345Z", up_s: UP,
    config: { last_reload_successful: false, last_reload: "2026-11-20T17:02:11.000Z", in_use: 2 },
    listeners: [{ name: "0.0.0.0:8443", tls: true }],
    upstreams: [
      { name: "chat", endpoints: [
        { endpoint: "http://10.20.0.11:9001", healthy: true, latency_ms: 0.41, sessions: 1702, last_error: null },
        { endpoint: "http://10.20.0.12:9001", healthy: true, latency_ms: 0.38, sessions: 1688, last_error: null },
        { endpoint: "http://10.20.0.13:9001", healthy: false, latency_ms: null, sessions: 0, last_error: "connection refused (os error 111)" },
      ] },
      { name: "presence", endpoints: [{ endpoint: "unix:/run/presence/ws.sock", healthy: null, latency_ms: null, sessions: 902, last_error: null }] },
    ],
    limits: [
      { name: "connections", used: 4306, limit: 5000 }, { name: "connections_per_address", used: 61, limit: 256 },
      { name: "pending_bytes", used: 3_400_000, limit: 268_435_456 }, { name: "open_files", used: 8650, limit: 65_536 },
    ],
    certificates: [
      { name: "chat.example.com", not_after: "2026-11-30T08:00:00.000Z", days_left: 9 }, { name: "ws.example.org", not_after: "2027-01-19T08:00:00.000Z", days_left: 59 },
    ],
    totals: {
      sessions: 4292, connections: 4306, accepted: 1_802_441, dropped: 0, unanswered: 311,
      refused: { token_expired: 9120, rate_limited: 2210, origin_denied: 322, no_route: 104, upstream_unreachable: 1811, forbidden: 27, bad_request: 61 },
      ended: { client_closed: 1_603_200, client_lost: 180_022, upstream_lost: 5702, client_timeout: 8100, idle: 511, replaced: 600, kicked: 3, drained: 11 },
      messages: { from_client: 812_000_000, from_upstream: 3_300_000_000 }, bytes: { from_client: 1.1e11, from_upstream: 6e11 },
    },
    who: { client_closed: "client", client_lost: "client", upstream_lost: "upstream", client_timeout: "gateway", idle: "gateway", replaced: "gateway", kicked: "admin", drained: "gateway" },
    windows: [
      window(300, 1, { token_expired: 41, rate_limited: 12, origin_denied: 2 }, { client_closed: 1620, client_lost: 170, client_timeout: 9, replaced: 2 }),
      window(3600, 13, { token_expired: 811, rate_limited: 702, upstream_unreachable: 640, origin_denied: 11, bad_request: 1 }, { client_closed: 19_020, client_lost: 2010, upstream_lost: 1900, client_timeout: 88, replaced: 20, kicked: 1 }),
    ],
    history: { columns: COLUMNS, next: 720, rows: history.slice(since) },
  };
}

const NAMES = ["ann", "bob", "carla.meyer", "dimitri", "3f1c9a64-8e0e-4a52-9a0e-1f4c7f9d2b10", null, "eve<script>alert(1)</script>", "frieda", "gustavo", "hye-jin", "ines", "jonas"];

export function sessions(words = "") {
  const random = chance(11);
  const all = NAMES.map((user, at) => ({
    id: (0x9c1f0e6d2b7a4c55n + BigInt(at) * 0x1234567n).toString(16), state: "open", user, route: at % 4 === 3 ? "/presence" : "/api/v1/chats/{chat_id}/ws",
    listener: "0.0.0.0:8443", client: `192.0.2.${7 + at}:${40_000 + at * 317}`, via: null, host: "chat.example.com", path: "/api/v1/chats/81/ws",
    origin: "https://chat.example.com", subprotocol: "chat.v2", upstream: "chat", endpoint: `http://10.20.0.1${1 + (at % 2)}:9001`,
    opened: "2026-11-21T03:01:12.345Z", age_s: Math.round(9 * 2.4 ** at * random() + 2), idle_s: Math.round(30 * random()),
    messages: { from_client: Math.round(90 * at * random()), from_upstream: Math.round(700 * at * random()) },
    bytes: { from_client: Math.round(9000 * at * random()), from_upstream: Math.round(90_000 * at * random()) }, pending_bytes: 0,
    steps: [{ name: "accept", ms: 0.1 }, { name: "tls", ms: 3.2 }, { name: "request", ms: 0.6 }, { name: "admission", ms: 0.4 }, { name: "upstream_connect", ms: 0.5 }, { name: "upstream_handshake", ms: 2.1 }],
  }));
  const found = all.filter(({ id, user, route, client }) => `${id} ${user} ${route} ${client}`.includes(words));
  return { now: "2026-11-21T03:07:12.345Z", open: 4292, matching: words ? found.length : 4292, sessions: found };
}
