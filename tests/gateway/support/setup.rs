//! A configuration for a test: everything has a default, any section can be changed.

use super::tokens::SECRET;

/// Sections of the configuration, as lines of TOML.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Lines of `[[listener]]`.
    pub listener: String,
    /// Further listeners and their tables.
    pub more_listeners: String,
    /// Lines of `[admin]`.
    pub admin: String,
    /// `keys` of the verifier.
    pub keys: String,
    /// Further lines of `[verifiers.users]`.
    pub verifier: String,
    /// Lines of `[upstreams.chat]` besides the endpoints.
    pub upstream: String,
    /// Endpoints.
    pub endpoints: Vec<String>,
    /// Path and further lines of the first `[[route]]`.
    pub path: String,
    pub route: String,
    /// Further routes, whole.
    pub more_routes: String,
    pub limits: String,
    pub timeouts: String,
    pub keepalive: String,
    pub drain: String,
    pub close_codes: String,
    /// Further tables of any kind, such as verifiers and upstreams.
    pub more: String,
    /// `log.level`.
    pub log_level: &'static str,
    /// Open-file limit of the process, if it is to be another.
    pub open_files: Option<u64>,
    /// Worker threads of the process, if they are to be fewer than processors.
    pub workers: Option<u32>,
    /// Further environment variables of the process.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// A plain listener, the route `/ws` without verifier, this upstream.
    pub fn open(endpoint: &str) -> Self {
        Self {
            listener: "bind = \"127.0.0.1:0\"\n".to_owned(),
            more_listeners: String::new(),
            admin: "bind = \"127.0.0.1:0\"\n".to_owned(),
            keys: "[{ algorithm = \"HS256\", file = \"secret\" }]".to_owned(),
            verifier: "issuers = [\"https://id.example.com\"]\naudiences = [\"chat\"]\n\
                       required_claims = { token_use = \"access\" }\n"
                .to_owned(),
            upstream: "health = { interval = \"0\" }\n".to_owned(),
            endpoints: vec![endpoint.to_owned()],
            path: "/ws".to_owned(),
            route: "verifier = \"none\"\n".to_owned(),
            more_routes: String::new(),
            limits: String::new(),
            timeouts: String::new(),
            keepalive: String::new(),
            drain: "window = \"0s\"\n".to_owned(),
            close_codes: String::new(),
            more: String::new(),
            log_level: "debug",
            open_files: None,
            workers: None,
            environment: Vec::new(),
        }
    }

    /// The same, and a token is required.
    pub fn with_tokens(endpoint: &str) -> Self {
        let mut setup = Self::open(endpoint);
        setup.route = "verifier = \"users\"\n".to_owned();
        setup
    }

    pub fn limits(mut self, lines: &str) -> Self {
        self.limits.push_str(&format!("{lines}\n"));
        self
    }

    pub fn timeouts(mut self, lines: &str) -> Self {
        self.timeouts.push_str(&format!("{lines}\n"));
        self
    }

    pub fn keepalive(mut self, lines: &str) -> Self {
        self.keepalive.push_str(&format!("{lines}\n"));
        self
    }

    pub fn route(mut self, lines: &str) -> Self {
        self.route.push_str(&format!("{lines}\n"));
        self
    }

    pub fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(&format!("{lines}\n"));
        self
    }

    pub fn verifier(mut self, lines: &str) -> Self {
        self.verifier.push_str(&format!("{lines}\n"));
        self
    }

    pub fn upstream(mut self, lines: &str) -> Self {
        self.upstream.push_str(&format!("{lines}\n"));
        self
    }

    pub fn endpoint(mut self, endpoint: &str) -> Self {
        self.endpoints.push(endpoint.to_owned());
        self
    }

    pub fn drain(mut self, lines: &str) -> Self {
        self.drain.push_str(&format!("{lines}\n"));
        self
    }

    /// `[close_codes]` and its sub-tables, whole.
    pub fn close_codes(mut self, tables: &str) -> Self {
        self.close_codes.push_str(&format!("{tables}\n"));
        self
    }

    /// Another route: its path, its upstream and further lines.
    pub fn another_route(mut self, path: &str, upstream: &str, lines: &str) -> Self {
        let route = format!("[[route]]\npath = \"{path}\"\nupstream = \"{upstream}\"\n{lines}\n");
        self.more_routes.push_str(&route);
        self
    }

    /// Another upstream: its endpoints and further lines; no health checks.
    pub fn another_upstream(mut self, name: &str, endpoints: &[&str], lines: &str) -> Self {
        let head = format!("[upstreams.{name}]\nendpoints = {endpoints:?}\n");
        self.more.push_str(&format!("{head}health = {{ interval = \"0\" }}\n{lines}\n"));
        self
    }

    /// Another verifier, which reads the same secret.
    pub fn another_verifier(mut self, name: &str, lines: &str) -> Self {
        let keys = "keys = [{ algorithm = \"HS256\", file = \"secret\" }]";
        self.more.push_str(&format!("[verifiers.{name}]\n{keys}\n{lines}\n"));
        self
    }

    /// The configuration file's text; the secret stands in `secret` beside it.
    pub fn text(&self) -> String {
        let Self {
            listener,
            more_listeners,
            admin,
            keys,
            verifier,
            upstream,
            endpoints,
            path,
            route,
            more_routes,
            ..
        } = self;
        let Self { limits, timeouts, keepalive, drain, close_codes, more, log_level, .. } = self;
        format!(
            "[[listener]]\n{listener}\n{more_listeners}\n\
             [admin]\n{admin}\n\
             [verifiers.users]\nkeys = {keys}\n{verifier}\n\
             [upstreams.chat]\nendpoints = {endpoints:?}\n{upstream}\n\
             [[route]]\npath = \"{path}\"\nupstream = \"chat\"\n{route}\n{more_routes}\n\
             [limits]\n{limits}\n[timeouts]\n{timeouts}\n[keepalive]\n{keepalive}\n[drain]\n{drain}\n\
             [log]\nformat = \"json\"\nlevel = \"{log_level}\"\n\n{close_codes}\n{more}\n"
        )
    }

    /// The secret the verifier reads.
    pub fn secret(&self) -> &'static str {
        SECRET
    }
}
