//! Payloads of JSON: the events of users, and the four kinds of payloads of a workflow engine.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use pgbell::{Dispatcher, Failure, FailureCause, Hub, JsonError, JsonEvent, Retry};
use serde::{Deserialize, Serialize};

use super::on_every_version;
use crate::support::{Server, run, until};

on_every_version! {
    s9_user_events_are_sent_and_received_as_values
    r4_each_of_four_channels_has_handlers_of_its_payload
}

/// A change of a user.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct UserEvent {
    user_id: i64,
    action: String,
    timestamp: DateTime<Utc>,
}

/// S9: a notifier and SQL send the same value, and a listener and a subscription receive it.
fn s9_user_events_are_sent_and_received_as_values(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["user_updates"]).await.json::<UserEvent>();
        let hub = Hub::connect(server.url()).await.unwrap();
        let mut subscription = hub.subscribe("user_updates").await.unwrap().json::<UserEvent>();
        let notifier = server.notifier().await;
        let mut sql = server.connection().await;

        let by_notifier = UserEvent {
            user_id: i64::MIN,
            action: "naïve \"quote\" \\ \n \0 🔔".to_owned(),
            timestamp: "2025-01-15T10:30:00.123456Z".parse().unwrap(),
        };
        notifier.notify_json("user_updates", &by_notifier).await.unwrap();
        let build = "SELECT pg_notify('user_updates', json_build_object('user_id', $1::text::int8, \
                     'action', $2::text, 'timestamp', $3::text::timestamptz)::text)";
        let values = [Some("42"), Some("it's \"SQL\" \\ 🔔"), Some("2025-01-15 11:30:00.5+01")];
        sql.query(build, &values).await.unwrap();
        let by_sql = UserEvent {
            user_id: 42,
            action: "it's \"SQL\" \\ 🔔".to_owned(),
            timestamp: "2025-01-15T10:30:00.5Z".parse().unwrap(),
        };

        let senders = [notifier.process_id(), sql.process_id()];
        for (expected, sender) in [by_notifier, by_sql].into_iter().zip(senders) {
            for received in [listener.recv().await, subscription.recv().await] {
                match received.unwrap() {
                    JsonEvent::Value(event, notification) => {
                        assert_eq!(event, expected);
                        assert_eq!(Some(notification.process_id()), sender);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        hub.close().await;
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct WorkflowResumable {
    instance_id: String,
    workflow_name: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct TimerRegistered {
    instance_id: String,
    timer_id: String,
    expires_at: DateTime<Utc>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChannelMessage {
    channel_name: String,
    message_id: u64,
    target_instance_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct OutboxPending {
    event_id: String,
}

/// The channels with their payloads, as PostgreSQL writes them.
const PAYLOADS: [(&str, &str); 4] = [
    (
        "romancy_workflow_resumable",
        r#"{"instance_id" : "wf_abc123", "workflow_name" : "order_processing"}"#,
    ),
    (
        "romancy_timer_expired",
        r#"{"instance_id" : "wf_abc123", "timer_id" : "timer:sleep_1", "expires_at" : "2025-01-15T10:30:00Z"}"#,
    ),
    (
        "romancy_channel_message",
        r#"{"channel_name" : "orders", "message_id" : 42, "target_instance_id" : "wf_abc123"}"#,
    ),
    ("romancy_outbox_pending", r#"{"event_id" : "evt_123"}"#),
];

/// What the handlers have got, in the form of `Debug`.
type Handled = Arc<Mutex<Vec<String>>>;

/// Returns a handler that keeps the values.
fn keep<T: Debug>(
    handled: &Handled,
) -> impl Fn(T) -> std::future::Ready<()> + Send + Sync + 'static + use<T> {
    let handled = handled.clone();
    move |value| {
        handled.lock().unwrap().push(format!("{value:?}"));
        std::future::ready(())
    }
}

/// R4: the payload of each channel reaches the handlers of the channel as a value of their type. One of a wrong shape is a failure of its channel
/// alone, which is not tried again: a retry would wait for an hour.
fn r4_each_of_four_channels_has_handlers_of_its_payload(major: u32) {
    let server = Server::of(major);
    run(async {
        let hub = Hub::connect(server.url()).await.unwrap();
        let notifier = server.notifier().await;
        for over_hub in [false, true] {
            let handled = Handled::default();
            let failed = handled.clone();
            let hour = Duration::from_secs(3_600);
            let dispatcher = Dispatcher::new()
                .on_json("romancy_workflow_resumable", keep::<WorkflowResumable>(&handled))
                .on_json("romancy_timer_expired", keep::<TimerRegistered>(&handled))
                .on_json("romancy_channel_message", keep::<ChannelMessage>(&handled))
                // Two handlers of one channel.
                .on_json("romancy_outbox_pending", keep::<OutboxPending>(&handled))
                .on_json("romancy_outbox_pending", keep::<serde_json::Value>(&handled))
                .retry(Retry::new(5).backoff(hour, hour))
                .on_failure(move |failure: Failure| {
                    let FailureCause::Error(error) = failure.cause() else { panic!("{failure}") };
                    let error = error.downcast_ref::<JsonError>().unwrap();
                    let payload = error.notification().payload();
                    failed.lock().unwrap().push(format!("{failure} ({payload})"));
                    std::future::ready(())
                });
            let running = match over_hub {
                true => dispatcher.run_hub(&hub).await.unwrap(),
                false => dispatcher.run(server.listener(&[]).await).await.unwrap(),
            };
            notifier.notify("romancy_channel_message", r#"{"message_id": "42"}"#).await.unwrap();
            notifier.notify_many(PAYLOADS).await.unwrap();
            until("all are handled", || running.stats().handled == 5).await;

            let mut found = std::mem::take(&mut *handled.lock().unwrap());
            found.sort_unstable();
            let expected = [
                r#"ChannelMessage { channel_name: "orders", message_id: 42, target_instance_id: "wf_abc123" }"#,
                r#"Object {"event_id": String("evt_123")}"#,
                r#"OutboxPending { event_id: "evt_123" }"#,
                r#"TimerRegistered { instance_id: "wf_abc123", timer_id: "timer:sleep_1", expires_at: 2025-01-15T10:30:00Z }"#,
                r#"WorkflowResumable { instance_id: "wf_abc123", workflow_name: "order_processing" }"#,
                "romancy_channel_message: 1 notification was not handled in 1 attempt: the payload on channel \
                 romancy_channel_message, 20 bytes, cannot be decoded: found a string, expected u64, line 1 column 19 \
                 ({\"message_id\": \"42\"})",
            ];
            assert_eq!(found, expected, "over a hub: {over_hub}");
            let stats = running.stats();
            assert_eq!((stats.failures, stats.retries, stats.panics), (1, 0, 0));
            running.stop(Duration::ZERO).await;
        }
        hub.close().await;
    });
}
