//! The proxies, each configured as its own experts would for WebSockets: one worker, keep-alives,
//! no buffering, no access log for the peers.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::process::Proxy;

/// What every proxy is given.
pub struct Ground {
    pub folder: PathBuf,
    pub backend: SocketAddr,
    pub framegate: PathBuf,
    pub envoy: PathBuf,
}

/// A proxy, and how it is tuned.
#[derive(Clone)]
pub struct Variant {
    pub name: String,
    /// With buffers that hold a whole message of 16 KiB, where the proxy's own are smaller: fewer
    /// reads for such messages, and more memory.
    pub is_large: bool,
}

impl Variant {
    /// The ways `name` is measured.
    pub fn of(name: &str) -> Vec<Self> {
        let plain = Self { name: name.to_owned(), is_large: false };
        match name {
            "nginx" | "haproxy" => vec![plain.clone(), Self { is_large: true, ..plain }],
            _ => vec![plain],
        }
    }

    pub fn label(&self) -> String {
        if self.is_large { format!("{} 32k", self.name) } else { self.name.clone() }
    }
}

pub const NGINX: &str = "/usr/sbin/nginx";
pub const HAPROXY: &str = "/usr/sbin/haproxy";

/// A started proxy and where it listens.
pub struct Running {
    pub process: Proxy,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

/// The secret framegate verifies tokens with.
pub const SECRET: &str = "a benchmark secret of more than 32 bytes";

/// Starts a proxy pinned to core 0.
pub fn start(variant: &Variant, ground: &Ground) -> std::io::Result<Running> {
    let name = variant.name.as_str();
    let (plain, tls) = (free(), free());
    let write = |file: &str, text: String| {
        let path = ground.folder.join(file);
        std::fs::write(&path, text).unwrap();
        path
    };
    let folder = ground.folder.display();
    let backend = ground.backend;
    let log = ground.folder.join(format!("{name}.log"));
    let process = match name {
        "framegate" => {
            write("secret", SECRET.to_owned());
            let file = write("framegate.toml", framegate(plain, tls, backend));
            run(&ground.framegate, &["run", "--config", &text(&file)], &log)
        }
        "nginx" => {
            let file = write(
                "nginx.conf",
                nginx(plain, tls, backend, &folder.to_string(), variant.is_large),
            );
            run(Path::new(NGINX), &["-c", &text(&file), "-p", &folder.to_string()], &log)
        }
        "haproxy" => {
            let file = write(
                "haproxy.cfg",
                haproxy(plain, tls, backend, &folder.to_string(), variant.is_large),
            );
            run(Path::new(HAPROXY), &["-db", "-f", &text(&file)], &log)
        }
        "envoy" => {
            let file = write("envoy.yaml", envoy(plain, tls, backend, &folder.to_string()));
            let args =
                ["-c", &text(&file), "--concurrency", "1", "-l", "error", "--disable-hot-restart"];
            run(&ground.envoy, &args, &log)
        }
        other => {
            let known = "framegate, nginx, haproxy and envoy";
            return Err(std::io::Error::other(format!(
                "no proxy is called {other}: there are {known}"
            )));
        }
    }?;
    Ok(Running { process, plain, tls })
}

fn run(program: &Path, args: &[&str], log: &Path) -> std::io::Result<Proxy> {
    Proxy::start(0, program, args, log)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Every check on: token, limits, UTF-8, metrics, access log to a file.
fn framegate(plain: SocketAddr, tls: SocketAddr, backend: SocketAddr) -> String {
    format!(
        r#"[[listener]]
bind = "{plain}"
[[listener]]
bind = "{tls}"
[listener.tls]
certificates = [{{ chain = "cert.pem", key = "key.pem" }}]
[admin]
bind = "127.0.0.1:0"
[verifiers.users]
keys = [{{ algorithm = "HS256", file = "secret" }}]
issuers = ["https://id.example.com"]
audiences = ["chat"]
[upstreams.chat]
endpoints = ["http://{backend}"]
[[route]]
path = "/{{*any}}"
upstream = "chat"
verifier = "users"
[limits]
connections_per_address = 20000
connections_per_user = 20000
handshakes_per_address = {{ rate = "100000/s", burst = 100000 }}
messages = {{ rate = "1000000/s", burst = 1000000, over = "pause" }}
connections = 20000
"#
    )
}

fn nginx(
    plain: SocketAddr,
    tls: SocketAddr,
    backend: SocketAddr,
    folder: &str,
    large: bool,
) -> String {
    let buffers = if large {
        "proxy_buffer_size 32k; proxy_buffers 4 32k; proxy_busy_buffers_size 64k;"
    } else {
        ""
    };
    format!(
        r#"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err; worker_rlimit_nofile 20000;
events {{ worker_connections 32000; multi_accept on; use epoll; }}
http {{
  access_log off; tcp_nodelay on;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream backend {{ server {backend}; }}
  ssl_session_cache off; ssl_session_tickets on; ssl_protocols TLSv1.2 TLSv1.3;
  server {{
    listen {plain} backlog=4096; listen {tls} ssl backlog=4096;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; proxy_set_header Host $host;
      proxy_read_timeout 3600s; proxy_send_timeout 3600s; proxy_buffering off; {buffers}
    }}
  }}
}}
"#
    )
}

fn haproxy(
    plain: SocketAddr,
    tls: SocketAddr,
    backend: SocketAddr,
    folder: &str,
    large: bool,
) -> String {
    let buffers = if large { "  tune.bufsize 32768\n" } else { "" };
    let pem = std::fs::read_to_string(format!("{folder}/cert.pem")).unwrap()
        + &std::fs::read_to_string(format!("{folder}/key.pem")).unwrap();
    std::fs::write(format!("{folder}/both.pem"), pem).unwrap();
    format!(
        "global\n  nbthread 1\n  maxconn 9500\n  tune.ssl.default-dh-param 2048\n{buffers}\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
         frontend front\n  bind {plain} backlog 4096\n  bind {tls} ssl crt {folder}/both.pem backlog 4096\n  default_backend back\n\
         backend back\n  server one {backend}\n"
    )
}

fn envoy(plain: SocketAddr, tls: SocketAddr, backend: SocketAddr, folder: &str) -> String {
    let listener = |name: &str, address: SocketAddr, transport: &str| {
        format!(
            r#"  - name: {name}
    address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }}
    per_connection_buffer_limit_bytes: 32768
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {name}
          upgrade_configs: [ {{ upgrade_type: websocket }} ]
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: "/" }}, route: {{ cluster: backend, timeout: 0s }} }} ] }} ]
          http_filters: [ {{ name: envoy.filters.http.router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ]
{transport}"#,
            ip = address.ip(),
            port = address.port()
        )
    };
    let tls_context = format!(
        r#"      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context: {{ tls_certificates: [ {{ certificate_chain: {{ filename: "{folder}/cert.pem" }}, private_key: {{ filename: "{folder}/key.pem" }} }} ] }}
"#
    );
    format!(
        "static_resources:\n  listeners:\n{}{}  clusters:\n  - name: backend\n    type: STATIC\n    connect_timeout: 5s\n    circuit_breakers: {{ thresholds: [ {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }} ] }}\n    load_assignment: {{ cluster_name: backend, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: {}, port_value: {} }} }} }} }} ] }} ] }}\n",
        listener("plain", plain, ""),
        listener("tls", tls, &tls_context),
        backend.ip(),
        backend.port()
    )
}
