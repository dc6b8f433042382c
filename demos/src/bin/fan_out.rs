//! One connection and 10,010 subscriptions: 10,000 to topics of their own, and 10 to the whole channel.
//!
//! Ends by itself, with exit code 1 if a subscription did not get exactly its own messages. It needs no PostgreSQL:
//! `cargo run -p pgbell-demos --bin fan_out`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pgbell::testing::{BackendConfig, Server};
use pgbell::{Event, Hub, HubHandle, Notifier, Subscription};
use tokio::task::JoinSet;

const CHANNEL: &str = "orders";
const TOPICS: usize = 10_000;
const WHOLE: usize = 10;
/// Messages to each topic.
const MESSAGES: usize = 3;
/// Tasks that send. Each sends to topics of its own, one notification after the other.
const SENDERS: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr)]
async fn main() -> ExitCode {
    match tokio::time::timeout(TIMEOUT, run()).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("fan_out: {error}"),
        Err(_) => eprintln!("fan_out: not finished within {TIMEOUT:?}"),
    }
    ExitCode::FAILURE
}

#[allow(clippy::print_stdout)]
async fn run() -> Result<(), Failure> {
    let server = Server::start(BackendConfig::new()).await?;
    let hub = Hub::connect(server.url()).await?;

    let (memory, begin) = (resident_bytes(), Instant::now());
    let topics = subscribe_to_topics(&hub.handle()).await?;
    println!("{TOPICS} subscriptions to topics of their own: {:.1?}", begin.elapsed());
    if let (Some(before), Some(after)) = (memory, resident_bytes()) {
        println!("about {} bytes of memory for each", after.saturating_sub(before) / TOPICS);
    }
    let mut receivers = JoinSet::new();
    for (topic, subscription) in topics.into_iter().enumerate() {
        receivers.spawn(receive_topic(topic, subscription));
    }
    for _ in 0..WHOLE {
        receivers.spawn(receive_all(subscribe_to_all(&hub.handle()).await?));
    }
    let channels = hub.handle().channels().await?.len();
    println!("{} subscriptions, {channels} channel at the server", hub.stats().subscriptions);
    ensure(channels == 1, || format!("{channels} channels at the server, 1 was expected"))?;

    let begin = Instant::now();
    let sent = send(&Notifier::connect(server.url()).await?).await?;
    // Everything that was sent is now in the queues, and the subscriptions end when they have received it.
    hub.drain(TIMEOUT).await?;
    let mut received = 0;
    while let Some(done) = receivers.join_next().await {
        received += done??;
    }
    let expected = sent * (1 + WHOLE);
    println!("{sent} notifications sent, {received} received: {:.1?}", begin.elapsed());
    ensure(received == expected, || format!("{received} received, {expected} were expected"))
}

async fn subscribe_to_topics(hub: &HubHandle) -> Result<Vec<Subscription>, Failure> {
    let mut topics = Vec::with_capacity(TOPICS);
    for topic in 0..TOPICS {
        // Only the first one needs an answer of the server.
        topics.push(hub.subscribe_topic(CHANNEL, name(topic)).await?);
    }
    Ok(topics)
}

/// This queue has room for everything: the consumer may be slower than the senders.
async fn subscribe_to_all(hub: &HubHandle) -> Result<Subscription, Failure> {
    let all = hub.subscribe(CHANNEL).queue_capacity(TOPICS * MESSAGES).queue_bytes(4 * 1024 * 1024);
    Ok(all.await?)
}

fn name(topic: usize) -> String {
    format!("order-{topic}")
}

fn message(topic: usize, number: usize) -> String {
    format!("message {number} of order {topic}")
}

/// Sends the messages of all topics, and returns their number.
async fn send(notifier: &Notifier) -> Result<usize, Failure> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let notifier = notifier.clone();
        senders.spawn(async move {
            let mut sent = 0;
            for number in 0..MESSAGES {
                for topic in (sender..TOPICS).step_by(SENDERS) {
                    notifier.notify_topic(CHANNEL, name(topic), message(topic, number)).await?;
                    sent += 1;
                }
            }
            Ok::<usize, pgbell::Error>(sent)
        });
    }
    let mut sent = 0;
    while let Some(done) = senders.join_next().await {
        sent += done??;
    }
    Ok(sent)
}

/// Receives until the end of the hub, and checks that these are the messages of the topic, in their order.
async fn receive_topic(topic: usize, mut subscription: Subscription) -> Result<usize, Failure> {
    let mut received = 0;
    while let Some(payload) = next(&mut subscription).await? {
        let expected = message(topic, received);
        ensure(payload == expected, || format!("{payload:?} received, {expected:?} was expected"))?;
        received += 1;
    }
    ensure(received == MESSAGES, || format!("{received} messages of order {topic} received"))?;
    Ok(received)
}

/// Receives until the end of the hub, and checks that these are the messages of all topics, in the order of each topic.
async fn receive_all(mut subscription: Subscription) -> Result<usize, Failure> {
    let mut received = vec![0; TOPICS];
    while let Some(payload) = next(&mut subscription).await? {
        let (topic, text) = payload.split_once(':').ok_or("a payload without a topic")?;
        let topic: usize = topic.strip_prefix("order-").unwrap_or_default().parse()?;
        let count = received.get_mut(topic).ok_or("a topic that was not used")?;
        let expected = message(topic, *count);
        ensure(text == expected, || format!("{text:?} received, {expected:?} was expected"))?;
        *count += 1;
    }
    ensure(received.iter().all(|&count| count == MESSAGES), || "messages are missing".to_owned())?;
    Ok(received.iter().sum())
}

/// Returns the next payload. `None` after the end of the hub. A loss is an error here.
async fn next(subscription: &mut Subscription) -> Result<Option<String>, Failure> {
    match subscription.recv().await {
        Ok(Event::Notification(n)) => Ok(Some(n.payload().to_owned())),
        Ok(loss) => Err(loss.to_string().into()),
        Err(error) if error.kind() == pgbell::ErrorKind::Closed => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn ensure(is_true: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if is_true { Ok(()) } else { Err(text().into()) }
}

/// Returns the bytes of memory that the process uses, where the system has a `/proc` as Linux has it.
fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
