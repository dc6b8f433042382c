//! Properties of the types of the public interface that every program may use: they can be awaited, sent to other threads, and
//! inspected.

use futures_core::FusedStream;
use pgbell::{
    Batch, Config, Connection, Error, Event, Gap, Lagged, Listener, ListenerBuilder,
    ListenerHandle, Loss, Notification, NotificationRef, Notifier, NotifierBuilder, Rows,
    SharedBatch, Stats,
};

use crate::support::{next, server, soon};

#[test]
fn every_public_type_can_be_moved_to_another_thread_and_most_can_be_shared() {
    fn is_send<T: Send + Unpin>() {}
    fn is_shared<T: Send + Sync + Unpin + 'static>() {}
    is_shared::<Config>();
    is_shared::<Connection>();
    is_shared::<Error>();
    is_shared::<Event>();
    is_shared::<Gap>();
    is_shared::<Lagged>();
    is_shared::<ListenerHandle>();
    is_shared::<Loss>();
    is_shared::<Notification>();
    is_shared::<Notifier>();
    is_shared::<NotifierBuilder>();
    is_shared::<Rows>();
    is_shared::<SharedBatch>();
    is_shared::<Stats>();
    is_send::<Batch<'_>>();
    is_send::<Listener>();
    is_send::<ListenerBuilder>();
    is_send::<NotificationRef<'_>>();
}

#[tokio::test]
async fn a_builder_is_awaited_and_its_future_can_be_spawned() {
    let server = server().await;
    let builder = Listener::builder(server.url()).channels(["a"]);
    let mut listener = soon(tokio::spawn(builder.into_future())).await.unwrap().unwrap();
    let notifier = soon(async { Notifier::builder(server.url()).await }).await.unwrap();
    soon(notifier.notify("a", "1")).await.unwrap();

    let event = soon(listener.recv()).await.unwrap();
    assert_eq!(event.notification().unwrap().payload(), "1");
    assert!(event.loss().is_none());
    assert_eq!(event.into_notification().unwrap().channel(), "a");

    server.terminate(listener.process_id().unwrap());
    let event = soon(listener.recv()).await.unwrap();
    assert!(event.notification().is_none());
    assert!(matches!(event.loss(), Some(Loss::Gap(gap)) if gap.sessions() == 1), "{event}");
    assert!(event.into_notification().is_none());
}

#[tokio::test]
async fn a_stream_is_terminated_when_it_has_returned_none_and_not_before() {
    let server = server().await;
    let mut listener =
        soon(Listener::builder(server.url()).reconnect(false).connect()).await.unwrap();
    assert!(!listener.is_terminated());
    server.terminate(listener.process_id().unwrap());
    assert!(matches!(next(&mut listener).await, Some(Err(_))));
    assert!(!listener.is_terminated());
    assert!(next(&mut listener).await.is_none());
    assert!(listener.is_terminated());
}
