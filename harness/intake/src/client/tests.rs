use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;
use crate::{
    server::{self, RunningServer, Server},
    testing::{TRACE_ID, traces_body},
};

const OTHER_TRACE_ID: &str = "0af7651916cd43dd00000000000000ff";
const LONG: Duration = Duration::from_secs(10);

async fn intake_at(listen: &str, change: impl FnOnce(&mut server::Settings)) -> RunningServer {
    let mut settings = server::Settings {
        listen: listen.to_owned(),
        heartbeat: Duration::from_millis(20),
        ..server::Settings::default()
    };
    change(&mut settings);
    Server::bind(settings).await.unwrap().spawn()
}

async fn intake() -> RunningServer {
    intake_at("127.0.0.1:0", |_| {}).await
}

async fn connect(url: &str) -> IntakeClient {
    let settings = Settings { silence: Duration::from_millis(500), ..Settings::default() };
    IntakeClient::connect(url, settings).await.unwrap()
}

async fn send(url: &str, trace_id: &str, first: u64) -> u16 {
    let http = harness_core::http::client().no_proxy().build().unwrap();
    let request = http.post(format!("{url}/api/v0.2/traces")).header("dd-api-key", "any");
    let request = request.header("content-encoding", "gzip").body(traces_body(trace_id, first));
    request.send().await.unwrap().status().as_u16()
}

/// Stands between client and intake, and can cut or silence what goes through it.
struct Relay {
    address: SocketAddr,
    connections: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(to: &RunningServer) -> Self {
        let to = to.url().strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = watch::Sender::new(0);
        let cut = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = TcpStream::connect(&to).await.unwrap();
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { address, connections, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections there are; new ones are let through.
    fn cut(&self) {
        self.connections.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until(client: &IntakeClient, holds: impl Fn(&State) -> bool) {
    let held = client.wait(Instant::now() + LONG, holds).await;
    assert!(held, "{}; {:?}", client.stream(), client.counts());
}

#[tokio::test]
async fn the_copy_has_what_the_intake_has_and_wakes_its_readers() {
    let intake = intake().await;
    send(&intake.url(), TRACE_ID, 1).await;
    let client = connect(&intake.url()).await;
    client.drain(LONG).await.unwrap();
    let id = TRACE_ID.parse().unwrap();
    assert_eq!(client.trace(id).unwrap().spans.len(), 2, "what came before it is reported as well");

    let mut changed = client.changed();
    let before = Instant::now();
    send(&intake.url(), OTHER_TRACE_ID, 1).await;
    timeout(LONG, changed.changed()).await.unwrap().unwrap();
    client.drain(LONG).await.unwrap();
    assert_eq!(client.trace_ids().len(), 2);
    assert_eq!(client.counts(), client.server_counts().await.unwrap());
    assert_eq!(client.gaps(), []);
    assert_eq!(client.connections(), 1);
    assert_eq!(client.attempts().iter().map(|attempt| attempt.seq).collect::<Vec<_>>(), [1, 2]);
    let received = client.received_at(2).unwrap();
    assert!(before <= received && received <= Instant::now());
}

#[tokio::test]
async fn a_client_catches_up_with_what_the_intake_had_before() {
    let intake = intake().await;
    for first in 0..40 {
        assert_eq!(send(&intake.url(), TRACE_ID, first + 1).await, 202);
    }
    let client = connect(&intake.url()).await;
    client.catch_up().await.unwrap();
    assert_eq!(client.attempts().len(), 40);
}

#[tokio::test]
async fn a_lost_connection_loses_nothing() {
    let intake = intake().await;
    let relay = Relay::start(&intake).await;
    let client = connect(&relay.url()).await;
    for first in (1..20).step_by(2) {
        send(&intake.url(), TRACE_ID, first).await;
        relay.cut();
        until(&client, |state| state.connections > 1).await;
    }
    client.drain(LONG).await.unwrap();
    assert_eq!(client.trace(TRACE_ID.parse().unwrap()).unwrap().spans.len(), 20);
    assert_eq!(client.gaps(), []);
    assert!(client.connections() > 1);
}

#[tokio::test]
async fn a_stream_without_heartbeats_is_taken_for_dead() {
    let intake = intake_at("127.0.0.1:0", |settings| settings.heartbeat = LONG).await;
    let client = connect(&intake.url()).await;
    until(&client, |state| state.connections >= 2).await;
    send(&intake.url(), TRACE_ID, 1).await;
    client.drain(LONG).await.unwrap();
    assert_eq!(client.gaps(), []);
}

#[tokio::test]
async fn an_intake_that_was_started_anew_is_a_gap() {
    let intake = intake().await;
    let url = intake.url();
    let client = connect(&url).await;
    send(&url, TRACE_ID, 1).await;
    client.drain(LONG).await.unwrap();
    let address = url.strip_prefix("http://").unwrap().to_owned();
    intake.stop().await.unwrap();

    let again = intake_at(&address, |_| {}).await;
    send(&again.url(), OTHER_TRACE_ID, 1).await;
    client.drain(LONG).await.unwrap();
    let [gap] = client.gaps().try_into().unwrap();
    assert_eq!((gap.from, gap.to, gap.reason), (2, None, GapReason::InstanceChanged));
    assert_eq!(client.trace_ids().len(), 2, "what was seen stays seen");
}

#[tokio::test]
async fn what_either_side_pushed_out_is_a_gap() {
    let intake = intake_at("127.0.0.1:0", |settings| settings.bounds.max_attempts = 3).await;
    for first in 1..=5 {
        send(&intake.url(), TRACE_ID, first * 2).await;
    }
    let settings =
        Settings { bounds: Bounds { max_attempts: 2, ..Bounds::default() }, ..Settings::default() };
    let client = IntakeClient::connect(&intake.url(), settings).await.unwrap();
    client.drain(LONG).await.unwrap();
    let gaps: Vec<_> = client.gaps().iter().map(|gap| (gap.from, gap.to, gap.reason)).collect();
    assert_eq!(gaps, [(1, Some(2), GapReason::NotKept), (1, Some(3), GapReason::NotKeptByReader)]);
}

#[tokio::test]
async fn replies_are_scripted_through_it() {
    let intake = intake().await;
    let client = connect(&intake.url()).await;
    client.script_reply(&Script::status(503)).await.unwrap();
    assert_eq!(send(&intake.url(), TRACE_ID, 1).await, 503);
    client.clear_replies().await.unwrap();
    assert_eq!(send(&intake.url(), TRACE_ID, 1).await, 202);
    let error = client.script_reply(&Script::status(99)).await.unwrap_err().to_string();
    assert!(error.contains("400") && error.contains("reply.status"), "{error}");
}

#[tokio::test]
async fn an_intake_that_is_not_there_is_an_error_within_the_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let settings = Settings { timeout: Duration::from_millis(200), ..Settings::default() };
    let silent = IntakeClient::connect(&url, settings).await.unwrap_err().to_string();
    assert!(silent.contains(&url) && silent.contains("200ms"), "{silent}");
    drop(listener);
    let refused = IntakeClient::connect(&url, settings).await.unwrap_err().to_string();
    assert!(refused.contains("refused"), "{refused}");
    let no_url = IntakeClient::connect("nonsense", settings).await.unwrap_err();
    assert!(matches!(no_url, ClientError::Setup { .. }), "{no_url}");
}

#[tokio::test]
async fn a_copy_that_stays_behind_is_an_error_that_says_how_far() {
    let intake = intake().await;
    let relay = Relay::start(&intake).await;
    let mut client = connect(&relay.url()).await;
    drop(relay);
    // The relay's open connections go on, so end the following by hand; the control API is asked directly.
    client.task.abort();
    client.url = intake.url();
    send(&intake.url(), TRACE_ID, 1).await;
    let error = client.drain(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, ClientError::Behind { own: 0, theirs: 1, .. }), "{error}");
}
