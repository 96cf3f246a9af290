//! What a bystander and the gauges see while somebody misbehaves.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Gateway, Setup, within};

/// An open route without limits of rate, so that only what is under attack decides.
pub fn calm(endpoint: &str) -> Setup {
    Setup::open(endpoint)
        .timeouts("close = \"300ms\"")
        .limits("handshakes_per_address = { rate = \"0/s\" }\nmessages = { rate = \"0/s\" }")
}

/// A session beside the attacked one, which exchanges messages all the time.
pub struct Witness {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Vec<Duration>>,
}

impl Witness {
    /// Connects to the gateway, whose backend echoes, and begins.
    pub async fn of(gateway: &Gateway) -> Self {
        let mut wire = gateway.client().session().await;
        let (stop, mut stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            let mut times = Vec::new();
            // A pace: it is to share the machine with the attack, not to be one.
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            loop {
                pace.tick().await;
                let is_over = stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty);
                if is_over && times.len() >= 10 {
                    break;
                }
                let text = format!("message {}", times.len());
                let began = Instant::now();
                wire.send_text(&text).await;
                wire.expect_text(&text).await;
                times.push(began.elapsed());
            }
            wire.send_close(1000, "").await;
            assert_eq!(wire.expect_close().await.0, Some(1000), "the bystander's own ending");
            wire.expect_fin().await;
            times
        });
        Self { stop, running }
    }

    /// Ends it; every message was answered, in order. Prints how long that took.
    pub async fn leave(self, attack: &str) {
        let _ = self.stop.send(());
        let mut times = within("the bystander's last answer", self.running).await.unwrap();
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        println!(
            "{attack}: bystander {} round trips, median {:?}, p99 {:?}, longest {:?}",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

/// The gateway's memory in bytes.
pub async fn resident(gateway: &Gateway) -> f64 {
    gateway.metric("process_resident_memory_bytes").await
}

/// Every gauge and every place is back at zero.
pub async fn all_is_back(gateway: &Gateway) {
    within("gauges at zero", async {
        while open_gauge(gateway).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Whether some gauge is not zero.
async fn open_gauge(gateway: &Gateway) -> bool {
    let names = ["connections{", "sessions_active{", "upstream_sessions{", "pending_bytes"];
    let metrics = gateway.metrics().await;
    let values = names.map(|name| {
        let start = format!("framegate_{name}");
        let found = metrics.iter().filter(|(series, _)| series.starts_with(&start));
        let values: Vec<f64> = found.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "{start} is not exported");
        values
    });
    values.iter().flatten().any(|value| *value != 0.0)
}
