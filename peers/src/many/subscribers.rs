//! The subscribers: each is a task that reads in batches and sums every byte.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbell::{Connection, Hub, Subscription};
use tokio::sync::{Notify, broadcast, mpsc};

use super::ManyJob;
use super::audience::Audience;
use crate::digest::Digest;
use crate::outcome::Outcome;

/// The highest number of unread notifications of a subscriber: more than it ever has.
const CAPACITY: usize = 16_384;

/// The highest number of notifications that are received from an `mpsc` channel at once.
const BATCH: usize = 1_024;

/// The parameters of the job's sessions.
pub(super) fn conninfo(job: &ManyJob) -> String {
    job.job.conninfo()
}

pub(super) async fn hub(job: &ManyJob) -> Outcome<()> {
    let (hub, audience, took) = of_hub(job).await?;
    audience.measure(job, hub.handle().process_id(), took).await
}

/// Subscribes with a hub, in a task for each subscriber. Returns the time of all subscribes too.
pub(super) async fn of_hub(job: &ManyJob) -> Outcome<(Hub, Arc<Audience>, Duration)> {
    let hub = Hub::connect(&*conninfo(job)).await?;
    let shape = job.job.shape;
    let begin = Instant::now();
    let mut subscriptions = Vec::with_capacity(job.subscribers);
    for index in 0..job.subscribers as u64 {
        let subscribe = match shape.topics {
            0 => hub.subscribe(shape.channel(index % shape.channels)),
            _ => hub.subscribe_topic(shape.channel_of(index), shape.topic(index)),
        };
        subscriptions.push(subscribe.queue_capacity(CAPACITY).queue_bytes(CAPACITY * 512).await?);
    }
    let took = begin.elapsed();
    let audience = Audience::new(job);
    for (subscriber, subscription) in subscriptions.into_iter().enumerate() {
        let audience = audience.clone();
        tokio::spawn(async move {
            let error = subscribed(subscriber, subscription, &audience).await;
            audience.fail(format!("subscriber {subscriber}: {error}"));
        });
    }
    Ok((hub, audience, took))
}

/// Receives until an error, which it returns.
async fn subscribed(
    subscriber: usize,
    mut subscription: Subscription,
    audience: &Audience,
) -> String {
    loop {
        let batch = match subscription.recv_batch().await {
            Ok(batch) => batch,
            Err(error) => return error.to_string(),
        };
        if let Some(loss) = batch.loss() {
            return format!("a loss: {loss:?}");
        }
        let mut digest = Digest::default();
        for n in batch {
            digest.add(n.channel_bytes(), n.payload_bytes());
        }
        audience.add(subscriber, &digest);
    }
}

pub(super) async fn connections(job: &ManyJob) -> Outcome<()> {
    let (shape, audience) = (job.job.shape, Audience::new(job));
    let begin = Instant::now();
    for subscriber in 0..job.subscribers {
        let mut connection = Connection::connect(&*conninfo(job)).await?;
        connection.listen(&shape.channel(subscriber as u64 % shape.channels)).await?;
        let audience = audience.clone();
        tokio::spawn(async move {
            let read = async {
                loop {
                    let batch = connection.recv_batch().await?;
                    let mut digest = Digest::default();
                    for n in batch {
                        digest.add(n.channel_bytes(), n.payload_bytes());
                    }
                    audience.add(subscriber, &digest);
                }
            };
            let ended: Result<(), pgbell::Error> = read.await;
            audience.fail(format!("subscriber {subscriber}: {ended:?}"));
        });
    }
    audience.measure(job, None, begin.elapsed()).await
}

/// Reads with one session, in a task, and calls `feed` for each payload.
async fn feed(
    job: &ManyJob,
    audience: &Arc<Audience>,
    mut feed: impl FnMut(&str) + Send + 'static,
) -> Outcome<()> {
    let mut connection = Connection::connect(&*conninfo(job)).await?;
    connection.listen_all(job.job.shape.all_channels()).await?;
    let audience = audience.clone();
    tokio::spawn(async move {
        loop {
            match connection.recv_batch().await {
                Ok(batch) => batch.iter().for_each(|n| feed(n.payload())),
                Err(error) => return audience.fail(error.to_string()),
            }
            // The receivers run before the next batch, as they do with a hub.
            tokio::task::yield_now().await;
        }
    });
    Ok(())
}

pub(super) async fn broadcast(job: &ManyJob) -> Outcome<()> {
    let audience = Audience::new(job);
    let begin = Instant::now();
    let (sender, _) = broadcast::channel::<Arc<[u8]>>(CAPACITY);
    for subscriber in 0..job.subscribers {
        let (mut receiver, audience) = (sender.subscribe(), audience.clone());
        let channel = job.job.shape.channel(0);
        tokio::spawn(async move {
            loop {
                let mut next = receiver.recv().await.map_err(|error| error.to_string());
                let mut digest = Digest::default();
                let ended = loop {
                    match next {
                        Ok(payload) => digest.add(channel.as_bytes(), &payload),
                        Err(why) => break Some(why),
                    }
                    next = match receiver.try_recv() {
                        Ok(payload) => Ok(payload),
                        Err(broadcast::error::TryRecvError::Empty) => break None,
                        Err(error) => Err(error.to_string()),
                    };
                };
                audience.add(subscriber, &digest);
                if let Some(why) = ended {
                    return audience.fail(format!("subscriber {subscriber}: {why}"));
                }
            }
        });
    }
    // An error would be that there are no receivers.
    feed(job, &audience, move |payload| drop(sender.send(payload.as_bytes().into()))).await?;
    audience.measure(job, None, begin.elapsed()).await
}

pub(super) async fn mpsc_map(job: &ManyJob) -> Outcome<()> {
    let (shape, audience) = (job.job.shape, Audience::new(job));
    let begin = Instant::now();
    let mut topics = HashMap::<String, mpsc::UnboundedSender<String>>::new();
    for subscriber in 0..job.subscribers {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        topics.insert(shape.topic(subscriber as u64), sender);
        let (channel, audience) = (shape.channel_of(subscriber as u64), audience.clone());
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                let mut digest = Digest::default();
                for payload in batch.drain(..) {
                    digest.add(channel.as_bytes(), payload.as_bytes());
                }
                audience.add(subscriber, &digest);
            }
        });
    }
    feed(job, &audience, move |payload| {
        let found =
            payload.split_once(':').and_then(|(topic, rest)| Some((topics.get(topic)?, rest)));
        if let Some((sender, rest)) = found {
            // An error would be that the receiver is gone.
            let _ = sender.send(rest.to_owned());
        }
    })
    .await?;
    audience.measure(job, None, begin.elapsed()).await
}

/// Wakes each task once for each run of notifications that the others receive.
pub(super) async fn wake_ups(job: &ManyJob) -> Outcome<()> {
    let (run, audience) = (job.job.shape.run, Audience::new(job));
    let woken = Digest::of_count(run);
    let bells: Vec<Arc<Notify>> = (0..job.subscribers).map(|_| Arc::default()).collect();
    for (subscriber, bell) in bells.iter().cloned().enumerate() {
        let audience = audience.clone();
        tokio::spawn(async move {
            loop {
                bell.notified().await;
                audience.add(subscriber, &woken);
            }
        });
    }
    let rounds = job.job.count / (run * job.subscribers as u64);
    tokio::spawn(async move {
        // The measurement has begun by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..rounds {
            bells.iter().for_each(|bell| bell.notify_one());
            tokio::task::yield_now().await;
        }
    });
    audience.measure(job, None, Duration::ZERO).await
}
