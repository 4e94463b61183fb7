//! The sample app from outside: over HTTP, with the real SDK exporting to a collector's stand-in.

#[cfg(test)]
mod support;

#[cfg(test)]
mod chain;
#[cfg(test)]
mod export;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod outgoing;
#[cfg(test)]
mod process;
#[cfg(test)]
mod propagation;
#[cfg(test)]
mod shutdown;
