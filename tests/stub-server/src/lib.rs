//! An HTTP server with scripted replies, for tests: wiremock's, which may be dropped anywhere.

use std::{
    ops::Deref,
    pin::pin,
    task::{Context, Waker},
};

use tokio::task::coop::unconstrained;
use wiremock::MockServer;

/// A [`MockServer`] that may be dropped in any task.
///
/// When it is dropped, wiremock's own waits for a lock of tokio's, by an executor that tokio does not know. Tokio lets a task that has done
/// much in one go wait for its next turn, which does not come while the thread is blocked: on a busy machine, where everything that a test
/// asks for is there already, a test did not end (wiremock 0.6.5, tokio 1.54.1). Here the lock is waited for without such turns.
#[derive(Debug)]
pub struct StubServer(Option<MockServer>);

impl StubServer {
    /// Starts a server at a free port of 127.0.0.1.
    pub async fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one place in which it is wrapped")]
        let server = MockServer::start().await;
        Self(Some(server))
    }
}

impl Deref for StubServer {
    type Target = MockServer;

    fn deref(&self) -> &MockServer {
        #[expect(clippy::expect_used, reason = "it is taken when this is dropped, and not before")]
        let server = self.0.as_ref().expect("it is there until it is dropped");
        server
    }
}

impl Drop for StubServer {
    fn drop(&mut self) {
        let server = self.0.take();
        let dropped = pin!(unconstrained(async { drop(server) }));
        // Ready at once, since nothing is awaited in it.
        let _ready = dropped.poll(&mut Context::from_waker(Waker::noop()));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use tokio::task::coop::{consume_budget, has_budget_remaining};
    use wiremock::{Mock, ResponseTemplate, matchers::any};

    use super::StubServer;

    /// Runs a test in a thread of its own, and fails where it does not end.
    fn ends(test: impl Future<Output = ()> + Send + 'static) -> std::thread::Result<()> {
        let (ended, end) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(test);
            // Where it panics, the channel is closed.
            ended.send(()).unwrap();
        });
        let end = end.recv_timeout(Duration::from_secs(60));
        assert_ne!(end, Err(mpsc::RecvTimeoutError::Timeout), "it does not end");
        thread.join()
    }

    #[test]
    fn it_is_dropped_by_a_task_that_has_done_much() {
        let ended = ends(async {
            let server = StubServer::start().await;
            while has_budget_remaining() {
                consume_budget().await;
            }
            drop(server);
            assert!(!has_budget_remaining(), "the task has had another turn");
        });
        ended.unwrap();
    }

    #[test]
    fn what_it_expected_in_vain_fails_the_test_when_it_is_dropped() {
        let ended = ends(async {
            let server = StubServer::start().await;
            Mock::given(any())
                .respond_with(ResponseTemplate::new(200))
                .expect(1)
                .mount(&server)
                .await;
        });
        let panic = ended.unwrap_err();
        let said = panic.downcast_ref::<String>().unwrap();
        assert!(said.contains("Verifications failed"), "{said}");
    }
}
