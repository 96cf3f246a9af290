//! What single steps cost, without sockets: `cargo bench --bench micro`.
//!
//! `cargo bench --bench micro -- tokens` runs what has `tokens` in its name. The whole gateway beside
//! other proxies is measured in `benches/compare`.

mod admission;
mod frames;
mod requests;
mod routes;
mod setup;

fn main() {
    divan::main();
}
