//! Channel, payload and sender arrive as they were sent.

use pgbell::{ChannelState, Listening};

use super::on_every_version;
use crate::support::{Server, next, receive, run, up_to_end};

on_every_version! {
    notifications_with_any_channel_name_and_payload_length_arrive
    unlisten_ends_a_channel_and_a_later_listen_activates_it
}

fn channels() -> Vec<String> {
    let mut channels: Vec<String> = [
        "plain",
        "MiXed Case",
        "with space",
        " ",
        "q\"uo\"te",
        "\"",
        "'single'",
        "semi;colon--",
        "/*",
        "back\\slash",
        "*",
        "select",
        "a.b",
        "$1",
        "Ünï-çødé",
        "🦀",
        "tab\tline\n",
        "\u{7f}\u{1}",
    ]
    .map(str::to_owned)
    .to_vec();
    // 63 bytes, the longest name: of characters of one byte, and of several.
    channels.push("x".repeat(63));
    channels.push(format!("{}x", "é".repeat(31)));
    channels.push("€".repeat(21));
    channels
}

/// P3, P4: names may have any content. A payload has up to 7,999 bytes.
fn notifications_with_any_channel_name_and_payload_length_arrive(major: u32) {
    let server = Server::of(major);
    let payloads = [
        String::new(),
        "x".to_owned(),
        "\u{1}\\'\"%s\n".to_owned(),
        "y".repeat(7_999),
        format!("{}z", "é".repeat(3_999)),
    ];
    run(async {
        let mut listener = server.listener(&[]).await;
        let mut inline = server.connection().await;
        let notifier = server.notifier().await;
        let mut sender = server.connection().await;
        for channel in channels() {
            assert_eq!(listener.listen(&channel).await.unwrap(), Listening::Active);
            inline.listen(&channel).await.unwrap();
            for payload in &payloads {
                notifier.notify(&channel, payload).await.unwrap();
                sender.notify(&channel, payload).await.unwrap();
                let senders = [notifier.process_id(), sender.process_id()];
                for (sender, found) in senders.into_iter().zip(receive(&mut inline, 2).await) {
                    let same = next(&mut listener).await;
                    for found in [found, same] {
                        assert_eq!(found.channel(), channel);
                        assert_eq!(found.payload(), payload);
                        assert_eq!(Some(found.process_id()), sender);
                        assert_eq!(found.epoch(), 1);
                    }
                }
            }
        }
        let names = listener.handle().channels().await.unwrap();
        assert_eq!(names.len(), channels().len());
        assert!(names.iter().all(|(_, listening)| matches!(listening, ChannelState::Active)));
    });
}

/// P10: after `unlisten` no later notification arrives. `listen` again works.
fn unlisten_ends_a_channel_and_a_later_listen_activates_it(major: u32) {
    let server = Server::of(major);
    run(async {
        let mut listener = server.listener(&["end"]).await;
        let notifier = server.notifier().await;
        for channel in channels() {
            listener.listen(&channel).await.unwrap();
            notifier.notify(&channel, "1").await.unwrap();
            listener.unlisten(&channel).await.unwrap();
            notifier.notify(&channel, "2").await.unwrap();
            listener.listen(&channel).await.unwrap();
            notifier.notify(&channel, "3").await.unwrap();
            listener.unlisten(&channel).await.unwrap();
            notifier.notify(&channel, "4").await.unwrap();
            notifier.notify("end", "end").await.unwrap();
            let expect = ["1", "3"].map(|payload| (channel.clone(), payload.to_owned()));
            assert_eq!(up_to_end(&mut listener).await, expect);
        }
    });
}
