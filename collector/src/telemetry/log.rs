//! The collector's logs, on standard error.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::settings::{LogLevel, Service};

/// Sends all logs of this process to standard error, as the config asks. Does nothing if that was set up before.
pub(crate) fn init(service: &Service) {
    let logs = &service.telemetry.logs;
    let level = match logs.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let builder = fmt().with_max_level(level).with_target(false).with_writer(std::io::stderr);
    // A second initialization in one process is one of a test; the first stays.
    let _ = match logs.encoding {
        crate::settings::LogEncoding::Console => builder.with_ansi(false).try_init(),
        crate::settings::LogEncoding::Json => builder.json().try_init(),
    };
}
