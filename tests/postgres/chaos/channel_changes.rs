//! Changes of the wanted channels while there is no session.

use std::time::Duration;

use pgbell::{ChannelState, Event, Listener, Listening, State};
use pgbell_testkit::Mode;

use crate::support::{Server, TEST_TIMEOUT, next, run, until};

/// P7, P12. Promise R8.
#[test]
fn channel_changes_without_a_server_take_effect_after_the_reconnect() {
    let server = Server::start();
    run(async {
        let builder = Listener::builder(server.url()).channels(["kept", "left"]);
        let builder = builder.backoff(Duration::from_millis(10), Duration::from_millis(100));
        let mut listener = builder.connect().await.unwrap();
        let handle = listener.handle();
        tokio::task::block_in_place(|| server.cluster.stop(Mode::Fast).unwrap());
        until("the loss is noticed", || handle.state() == State::Reconnecting).await;
        assert_eq!(handle.listen("new").await.unwrap(), Listening::Pending);
        handle.unlisten("left").await.unwrap();
        assert!(handle.simple_query("SELECT 1").await.is_err());
        let channels = handle.channels().await.unwrap();
        let names: Vec<&str> = channels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["kept", "new"]);
        assert!(channels.iter().all(|(_, state)| matches!(state, ChannelState::Pending)));
        tokio::task::block_in_place(|| server.cluster.start_again().unwrap());
        let event = tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await.unwrap().unwrap();
        assert!(matches!(&event, Event::Gap(gap) if gap.sessions() == 1), "{event:?}");
        until("it is connected", || handle.state() == State::Connected).await;
        let notifier = server.notifier().await;
        for channel in ["left", "kept", "new"] {
            notifier.notify(channel, channel).await.unwrap();
        }
        assert_eq!(next(&mut listener).await.channel(), "kept");
        assert_eq!(next(&mut listener).await.channel(), "new");
        listener.close().await;
    });
}
