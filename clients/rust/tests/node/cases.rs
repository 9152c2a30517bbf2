use appsockets_client::{Client, Credentials, End, Ended, Error, Event, HistoryRequest, Publish, Refusal};
use futures_util::future::join_all;

use super::{
    in_time, next_position, next_text,
    proxy::Proxy,
    server::{Server, options},
};

#[tokio::test]
async fn what_is_published_is_heard_and_read_again() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let mut news = client.subscribe("news").await.unwrap();
    assert_eq!(next_position(&mut news).await, None);
    let publish = Publish { channel: "news".into(), payload: "hello".into(), store: true, ..Publish::default() };
    let ack = in_time(client.publish_with(publish)).await.unwrap();
    let Some(Event::Message(message)) = in_time(news.next()).await else { panic!("no message") };
    assert_eq!((&message.payload[..], message.msg_id), (&b"hello"[..], ack.serial.clone()));
    let page = in_time(client.history("news", HistoryRequest::default())).await.unwrap();
    assert_eq!(page.messages.iter().map(|message| &message.msg_id).collect::<Vec<_>>(), [&ack.serial]);
    in_time(client.close()).await;
    assert_eq!(in_time(news.next()).await, Some(Event::Ended(Ended::Client(End::Closed))));
    assert_eq!(in_time(news.next()).await, None);
    assert_eq!(client.publish("news", "", "late").await, Err(Error::Closed));
    assert_eq!(client.ended(), Some(&End::Closed));
}

#[tokio::test]
async fn over_broken_connections_every_message_comes_once_and_in_order() {
    const MESSAGES: usize = 1_000;
    let server = Server::start().await;
    // Between 1,000 and 9,000 bytes, of which the handshake takes some hundred.
    let proxy = Proxy::start(server.address, |number| 1_000 + number.wrapping_mul(7_919) % 8_000).await;
    let (publisher, listener) = (options(proxy.address), options(proxy.address));
    let publisher = Client::connect(publisher).unwrap();
    let listener = Client::connect(listener).unwrap();
    let mut news = listener.subscribe("news").await.unwrap();
    assert_eq!(next_position(&mut news).await, None);
    let texts: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    let publishing = join_all(texts.iter().map(|text| publisher.publish("news", "number", text.clone())));
    let hearing = async {
        let mut heard = Vec::new();
        while heard.len() < MESSAGES {
            heard.push(next_text(&mut news).await);
        }
        heard
    };
    let (acks, heard) = tokio::join!(in_time(publishing), hearing);
    assert!(acks.iter().all(Result::is_ok), "{acks:?}");
    assert_eq!(heard, texts);
    assert!(proxy.cuts() > 10, "{} connections were cut", proxy.cuts());
    in_time(publisher.publish("news", "", "last")).await.unwrap();
    assert_eq!(next_text(&mut news).await, "last");
}

#[tokio::test]
async fn a_node_that_comes_back_finds_its_clients() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let mut news = client.subscribe("news").await.unwrap();
    assert_eq!(next_position(&mut news).await, None);
    in_time(client.publish("news", "", "before")).await.unwrap();
    assert_eq!(next_text(&mut news).await, "before");
    assert_eq!(client.connections(), 1);
    let (folder, address) = server.stopped().await;
    // Nobody serves now: it waits.
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.publish("news", "", "meanwhile").await }
    });
    let _server = Server::start_in(folder, address).await;
    in_time(waiting).await.unwrap().unwrap();
    // A node alone that restarts begins a new epoch, and says so.
    assert_eq!(next_position(&mut news).await, Some(false));
    assert_eq!(client.connections(), 2);
    in_time(client.publish("news", "", "after")).await.unwrap();
    // The waiting message may have come before the subscription, which then is what may be missing.
    let first = next_text(&mut news).await;
    if first == "meanwhile" {
        assert_eq!(next_text(&mut news).await, "after");
    } else {
        assert_eq!(first, "after");
    }
}

#[tokio::test]
async fn refusals_are_told() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let mut bad = client.subscribe("").await.unwrap();
    let Some(Event::Ended(Ended::Refused(failure))) = in_time(bad.next()).await else { panic!("not refused") };
    assert_eq!(failure.name, "bad_channel");
    let Err(Error::Refused(failure)) = in_time(client.publish("", "", "")).await else { panic!("not refused") };
    assert_eq!(failure.name, "bad_channel");
    let wrong = Credentials::Token("wrong".into());
    let Err(Error::Refused(failure)) = in_time(client.authenticate(wrong)).await else { panic!("not refused") };
    assert_eq!(failure.name, "token_invalid");
    let _first = client.subscribe("a").await.unwrap();
    let mut second = client.subscribe("a").await.unwrap();
    assert_eq!(in_time(second.next()).await, Some(Event::Ended(Ended::AlreadySubscribed)));
    let large = vec![b'x'; 10_000_000];
    assert_eq!(in_time(client.publish("a", "", large)).await, Err(Error::TooLarge));
}

#[tokio::test]
async fn what_came_since_a_serial_is_heard() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let acks = join_all(["a", "b", "c"].map(|text| client.publish("news", "", text)));
    let serials: Vec<_> = in_time(acks).await.into_iter().map(|ack| ack.unwrap().serial).collect();
    let mut news = client.subscribe_since("news", &*serials[0]).await.unwrap();
    assert_eq!(next_position(&mut news).await, Some(true));
    assert_eq!([next_text(&mut news).await, next_text(&mut news).await], ["b", "c"]);
    drop(news);
    // One that the node can't have given: that something may be missing must not keep back what comes.
    let beyond = serials[0].replace(":1", ":1000");
    let mut news = client.subscribe_since("news", beyond).await.unwrap();
    assert_eq!(next_position(&mut news).await, Some(false));
    in_time(client.publish("news", "", "d")).await.unwrap();
    assert_eq!(next_text(&mut news).await, "d");
    let mut bad = client.subscribe_since("other", "bad").await.unwrap();
    let Some(Event::Ended(Ended::Refused(failure))) = in_time(bad.next()).await else { panic!("not refused") };
    assert_eq!(failure.name, "bad_serial");
}

#[tokio::test]
async fn a_key_of_the_application_is_taken_once() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let publish = |text: &'static str, key: &str| {
        client.publish_with(Publish {
            channel: "news".into(),
            payload: text.into(),
            key: Some(key.into()),
            ..Publish::default()
        })
    };
    let first = in_time(publish("a", "0123456789abcdef")).await.unwrap();
    assert_eq!(in_time(publish("a", "0123456789abcdef")).await, Ok(first));
    for (text, key, name) in [("b", "0123456789abcdef", "key_conflict"), ("b", "short", "bad_key")] {
        let Err(Error::Refused(failure)) = in_time(publish(text, key)).await else { panic!("not refused") };
        assert_eq!(failure.name, name);
    }
}

#[tokio::test]
async fn a_client_that_can_never_come_in_ends() {
    let server = Server::start().await;
    let mut absent = server.options();
    absent.hub = "absent".into();
    let mut refused = server.options();
    refused.hub = "closed".into();
    refused.credentials = Some(Credentials::Token("wrong".into()));
    for options in [absent, refused] {
        let client = Client::connect(options).unwrap();
        assert!(in_time(client.publish("a", "", "")).await.is_err());
        assert!(!matches!(client.ended(), None | Some(End::Closed)));
    }
    let mut absent = server.options();
    absent.hub = "absent".into();
    let client = Client::connect(absent).unwrap();
    assert!(in_time(client.publish("a", "", "")).await.is_err());
    client.close().await;
    let Some(End::Refused(Refusal { status: 404, failure: Some(failure) })) = client.ended() else {
        panic!("{:?}", client.ended())
    };
    assert_eq!((failure.code, &*failure.name), (140, "hub_not_found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_subscribes_while_the_client_ends_hears_why() {
    let server = Server::start().await;
    for _ in 0..200 {
        let mut options = options(server.address);
        options.hub = "absent".into();
        let client = Client::connect(options).unwrap();
        // Again and again until it is too late, so that some meet the very end.
        while let Ok(mut news) = client.subscribe("news").await {
            let heard = in_time(news.next()).await;
            assert!(matches!(heard, Some(Event::Ended(Ended::Client(End::Refused(_))))), "{heard:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_reader_holds_its_client_back_and_misses_nothing() {
    let server = Server::start().await;
    let mut options = server.options();
    options.buffer = 1;
    let listener = Client::connect(options).unwrap();
    let mut news = listener.subscribe("news").await.unwrap();
    let publisher = Client::connect(server.options()).unwrap();
    assert_eq!(next_position(&mut news).await, None);
    let texts: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let acks = in_time(join_all(texts.iter().map(|text| publisher.publish("news", "", text.clone())))).await;
    assert!(acks.iter().all(Result::is_ok), "{acks:?}");
    for text in &texts {
        assert_eq!(&next_text(&mut news).await, text);
    }
}

#[tokio::test]
async fn who_leaves_hears_no_more_and_may_come_again() {
    let server = Server::start().await;
    let client = Client::connect(server.options()).unwrap();
    let mut news = client.subscribe("news").await.unwrap();
    assert_eq!(next_position(&mut news).await, None);
    drop(news);
    in_time(client.publish("news", "", "unheard")).await.unwrap();
    let mut news = client.subscribe("news").await.unwrap();
    assert_eq!(next_position(&mut news).await, None);
    in_time(client.publish("news", "", "heard")).await.unwrap();
    assert_eq!(next_text(&mut news).await, "heard");
}
