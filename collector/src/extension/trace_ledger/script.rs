//! Scripted responses to senders, for tests.

use std::collections::VecDeque;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::settings::duration;

/// Most replies that may be scripted at a time.
const MAX_SCRIPTS: usize = 100;

/// A reply that senders get instead of the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Of HTTP; over gRPC, the code that stands for it there.
    pub(crate) status: u16,
    /// How long the sender is asked to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// Scripted replies, the oldest first; it holds until it is used up.
#[derive(Debug, Default)]
pub(super) struct Scripts(VecDeque<Script>);

#[derive(Debug)]
struct Script {
    reply: Reply,
    /// For so many more requests.
    next: Option<u32>,
    /// For so long, from the first request on that it answers.
    lasting: Option<Duration>,
    /// When that is over, known from then on.
    until: Option<Instant>,
    /// Requests with this header are answered as usual.
    except: Option<HeaderName>,
}

impl Scripts {
    /// Adds what a query says: `status`, and where wanted `retry_after`, one of `next` and `for`, and `except`, a header whose requests
    /// are answered as usual.
    pub(super) fn add(&mut self, query: &str) -> Result<(), String> {
        let (mut status, mut retry_after, mut next, mut lasting) = (None, None, None, None);
        let mut except = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let time = || {
                let time = duration::parse(value).filter(|time| !time.is_zero());
                time.ok_or_else(|| format!("{key}: `{value}` is not a duration, such as 20s"))
            };
            let number =
                || value.parse::<u32>().map_err(|_| format!("{key}: `{value}` is not an integer"));
            match key {
                "status" => status = Some(number()?),
                "retry_after" => retry_after = Some(time()?),
                "next" => next = Some(number()?),
                "for" => lasting = Some(time()?),
                "except" => {
                    let name = value.parse::<HeaderName>();
                    except =
                        Some(name.map_err(|_| format!("except: `{value}` is not a header name"))?);
                }
                _ => {
                    return Err(format!(
                        "{key}: there are `status`, `retry_after`, `next`, `for` and `except`"
                    ));
                }
            }
        }
        let status = status.ok_or("status: give the status of HTTP that senders are answered")?;
        let status = u16::try_from(status).ok().filter(|status| (400..600).contains(status));
        let status = status.ok_or("status: give one from 400 to 599")?;
        if retry_after.is_some_and(|after| after.subsec_nanos() != 0) {
            return Err("retry_after: give whole seconds".into());
        }
        if next.is_some() && lasting.is_some() {
            return Err(
                "next: give either `next` or `for`, or neither to hold until cleared".into()
            );
        }
        if next == Some(0) {
            return Err("next: must be more than 0".into());
        }
        if self.0.len() >= MAX_SCRIPTS {
            return Err(format!("there are {MAX_SCRIPTS} scripted replies already: clear them"));
        }
        let reply = Reply { status, retry_after };
        self.0.push_back(Script { reply, next, lasting, until: None, except });
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the response to a request with this head, if one is scripted.
    pub(super) fn next(&mut self, head: &HeaderMap) -> Option<Reply> {
        let now = Instant::now();
        let is_over = |script: &Script| {
            script.next == Some(0) || script.until.is_some_and(|until| until <= now)
        };
        while self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        let script = self.0.front_mut()?;
        if script.except.as_ref().is_some_and(|name| head.contains_key(name)) {
            return None;
        }
        if let Some(left) = &mut script.next {
            *left -= 1;
        }
        // A time that the clock does not reach lasts until cleared.
        script.until = script.until.or_else(|| now.checked_add(script.lasting?));
        Some(script.reply)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue};
    use tokio::time::advance;

    use super::{Reply, Scripts};

    fn reply(status: u16) -> Option<Reply> {
        Some(Reply { status, retry_after: None })
    }

    fn next(scripts: &mut Scripts) -> Option<Reply> {
        scripts.next(&HeaderMap::new())
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_script_holds_until_it_is_used_up() {
        let mut scripts = Scripts::default();
        assert_eq!(next(&mut scripts), None);
        scripts.add("status=503&next=2").unwrap();
        scripts.add("status=429&retry_after=3s&for=20s").unwrap();
        assert_eq!([next(&mut scripts), next(&mut scripts)], [reply(503), reply(503)]);
        let reported = Some(Reply { status: 429, retry_after: Some(Duration::from_secs(3)) });
        // Its time begins with the first request that meets it, however late that comes.
        advance(Duration::from_secs(60)).await;
        assert_eq!(next(&mut scripts), reported);
        advance(Duration::from_secs(19)).await;
        assert_eq!(next(&mut scripts), reported);
        advance(Duration::from_secs(1)).await;
        assert_eq!(next(&mut scripts), None);
        scripts.add("status=500").unwrap();
        assert_eq!(next(&mut scripts), reply(500));
        scripts.clear();
        assert_eq!(next(&mut scripts), None);
        scripts.add("status=503&except=x-mine").unwrap();
        let mine =
            HeaderMap::from_iter([("x-mine".parse().unwrap(), HeaderValue::from_static("1"))]);
        assert_eq!((next(&mut scripts), scripts.next(&mine)), (reply(503), None));
    }

    #[test]
    fn what_a_script_lacks_is_said() {
        for (query, expected) in [
            ("", "status: give the status"),
            ("status=200", "status: give one from 400"),
            ("status=x", "status: `x` is not an integer"),
            ("status=503&next=0", "next: must be more than 0"),
            ("status=503&next=1&for=1s", "next: give either"),
            ("status=503&for=0s", "for: `0s` is not a duration"),
            ("status=503&retry_after=1500ms", "retry_after: give whole seconds"),
            ("status=503&delay=1s", "delay: there are"),
        ] {
            let error = Scripts::default().add(query).unwrap_err();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }
}
