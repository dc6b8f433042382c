//! The endpoints over TCP.

use serde_json::Value;

use crate::clients::Client;
use crate::{Site, send};

/// A client of each endpoint, which has received its first message.
async fn both(site: &Site, room: &str) -> [Client; 2] {
    let mut clients = [
        Client::events(site.address, room, None).await,
        Client::socket(site.address, room, None).await,
    ];
    for client in &mut clients {
        assert_eq!(client.next().await.unwrap()["type"], "ready");
        assert_eq!(client.next().await.unwrap()["state"], "connected");
    }
    clients
}

#[tokio::test]
async fn the_messages_of_a_room_arrive_with_an_id_each_and_no_others() {
    let site = Site::start().await;
    let clients = both(&site, "ink").await;
    let texts = ["first", "two\r\nlines and \"quotes\" – ✓", ""];
    send(&site.database, "paper", "for another room");
    for text in texts {
        send(&site.database, "ink", text);
    }
    for mut client in clients {
        let mut ids = Vec::new();
        for text in texts {
            let message = client.next().await.unwrap();
            assert_eq!(message["type"], "message");
            assert_eq!(message["text"], text);
            ids.push(message["id"].to_string());
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), texts.len(), "{ids:?}");
    }
    assert_eq!(site.database.clients(), 1, "one connection for all clients");
}

#[tokio::test]
async fn a_lost_session_is_sent_as_reload_with_its_text_and_messages_follow() {
    let site = Site::start().await;
    let mut clients = both(&site, "ink").await;
    site.database.terminate_all();
    for client in &mut clients {
        let reload = client.next_of("reload").await;
        let reason = reload["reason"].as_str().unwrap();
        assert!(reason.contains("57P01") && reason.contains("1 session lost"), "{reason}");
    }
    send(&site.database, "ink", "after the loss");
    for client in &mut clients {
        assert_eq!(client.next_of("message").await["text"], "after the loss");
    }
}

#[tokio::test]
async fn the_state_of_the_session_is_sent_when_it_changes() {
    let mut site = Site::start().await;
    let mut clients = both(&site, "ink").await;
    site.database.halt().await;
    for client in &mut clients {
        assert_eq!(client.next_of("database").await["state"], "reconnecting");
    }
    site.database.resume().await.unwrap();
    for client in &mut clients {
        assert_eq!(client.next_of("database").await["state"], "connected");
    }
}

#[tokio::test]
async fn a_reconnect_with_an_id_that_is_not_known_is_answered_with_reload() {
    let site = Site::start().await;
    for id in ["0123456789abcdef-3", "nonsense", "-", "%00"] {
        let mut clients = [
            Client::events(site.address, "ink", Some(id)).await,
            Client::socket(site.address, "ink", Some(id)).await,
        ];
        for client in &mut clients {
            assert_eq!(client.next().await.unwrap()["continued"], Value::Bool(false));
            assert_eq!(client.next().await.unwrap()["type"], "database");
            let reload = client.next().await.unwrap();
            assert_eq!(reload["reason"], "the server cannot continue after the last message");
        }
    }
}

#[tokio::test]
async fn a_stop_sends_every_client_a_last_message_and_ends() {
    let site = Site::start().await;
    let clients = both(&site, "ink").await;
    send(&site.database, "ink", "before");
    site.stop.send(()).unwrap();
    for mut client in clients {
        assert_eq!(client.next_of("goodbye").await["reason"], "the server ends");
        assert_eq!(client.next().await, None);
    }
    site.serving.await.unwrap();
    assert_eq!(site.database.clients(), 0);
}

/// Their sockets are full, so the last message cannot be sent to them either.
#[tokio::test]
async fn clients_that_do_not_read_disturb_no_other_and_do_not_prevent_the_end() {
    let site = Site::start().await;
    let _stuck = both(&site, "ink").await;
    let mut reading = both(&site, "ink").await;
    let long = "x".repeat(7_900);
    for number in 0..1_500 {
        send(&site.database, "ink", &format!("{number} {long}"));
        for client in &mut reading {
            let message = client.next().await.unwrap();
            let text = message["text"].as_str().expect("a message and no loss");
            assert_eq!(text.split_once(' ').unwrap().0, number.to_string());
        }
    }
    site.stop.send(()).unwrap();
    for client in &mut reading {
        assert_eq!(client.next().await.unwrap()["type"], "goodbye");
    }
    site.serving.await.unwrap();
    assert_eq!(site.database.clients(), 0);
}

#[tokio::test]
async fn a_room_that_cannot_be_a_topic_is_refused() {
    let site = Site::start().await;
    let path = "/rooms/a:b/events";
    let (client, status) = Client::get(site.address, path, "Connection: close\r\n").await;
    assert_eq!(status, "400 Bad Request");
    assert_eq!(client.rest().await, "misuse: the topic contains the separator ':'");
}

#[tokio::test]
async fn the_page_is_html() {
    let site = Site::start().await;
    let (client, status) = Client::get(site.address, "/", "Connection: close\r\n").await;
    assert_eq!(status, "200 OK");
    let page = client.rest().await;
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
}
