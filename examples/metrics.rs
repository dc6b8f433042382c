//! Ends by itself. A page with the metrics of a listener, as Prometheus reads it, and a readiness probe.
//!
//! `cargo run --example metrics --features testing,metrics`
//!
//! With the feature `metrics`, pgbell reports through the facade of the `metrics` crate, and any exporter shows it. A program usually takes
//! `metrics-exporter-prometheus`. The recorder here is a small one, so that the example has no other dependency.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use pgbell::testing::{BackendConfig, Server};
use pgbell::{Config, Event, Listener, ListenerHandle, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The values by name and labels. A gauge is stored as the bits of a float.
#[derive(Clone, Default)]
struct Page {
    counters: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    gauges: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

/// Returns the name as Prometheus writes it: `name{label="value"}`. The labels of pgbell need no escapes here.
fn name(key: &Key) -> String {
    let labels: Vec<_> =
        key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Page {
    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &*self.counters.lock().unwrap() {
            let _ = writeln!(text, "{name} {}", value.load(Ordering::Relaxed));
        }
        for (name, value) in &*self.gauges.lock().unwrap() {
            let _ = writeln!(text, "{name} {}", f64::from_bits(value.load(Ordering::Relaxed)));
        }
        text
    }
}

impl Recorder for Page {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.counters.lock().unwrap().entry(name(key)).or_default().clone())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.gauges.lock().unwrap().entry(name(key)).or_default().clone())
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Answers one request: `/ready` is 200 while notifications are delivered, and everything else is the page.
async fn answer(
    mut client: TcpStream,
    page: &Page,
    handle: &ListenerHandle,
) -> std::io::Result<()> {
    let mut request = [0; 1_024];
    let length = client.read(&mut request).await?;
    let (status, body) = if request[..length].starts_with(b"GET /ready ") {
        let status =
            if handle.state() == State::Connected { "200 OK" } else { "503 Service Unavailable" };
        (status, format!("{}\n", handle.state()))
    } else {
        ("200 OK", page.text())
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n");
    let rest = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    client.write_all(format!("{head}{rest}").as_bytes()).await
}

/// Reads a page, as Prometheus or a probe does.
async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    client.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before the listener connects: it registers its metrics then.
    let page = Page::default();
    metrics::set_global_recorder(page.clone())?;

    let server = Server::start(BackendConfig::new()).await?;
    // The name is the label `application` of every metric.
    let config: Config = server.url().parse()?;
    let config = config.application_name("shop");
    let mut listener = Listener::builder(config).channels(["orders"]).connect().await?;
    let handle = listener.handle();

    let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = socket.local_addr()?.port();
    let pages = tokio::spawn(async move {
        while let Ok((client, _)) = socket.accept().await {
            // A client that breaks off concerns no other one.
            let _ = answer(client, &page, &handle).await;
        }
    });

    for order in 1..=3 {
        server.notify("orders", &order.to_string())?;
        listener.recv().await?;
    }
    server.terminate_all();
    if let Event::Gap(gap) = listener.recv().await? {
        println!("{gap}");
    }
    server.notify("orders", "4")?;
    listener.recv().await?;

    println!("{}", get(port, "/ready").await?);
    // The metrics are written by the task of the listener, after a read is in the queue.
    let all = "pgbell_notifications_received_total{application=\"shop\"} 4\n";
    let mut metrics = get(port, "/metrics").await?;
    while !metrics.contains(all) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        metrics = get(port, "/metrics").await?;
    }
    println!("{metrics}");
    pages.abort();
    listener.close().await;
    server.stop().await;
    Ok(())
}
