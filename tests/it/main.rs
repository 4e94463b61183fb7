//! Integration tests of the whole: the program `tracecheck`, and the library as its users call it.

mod bad_input;
mod broken;
mod canary;
mod chain;
mod cli;
mod compare;
mod datadog;
mod docs;
mod doctor;
mod fault_header;
mod golden;
mod junit;
mod kind;
mod links;
mod listen;
mod modules;
mod own_services;
mod prose;
mod prove;
mod record;
mod report_schema;
mod rest;
mod sampled;
mod saved;
mod scenarios;
#[path = "../datadog/stand_in.rs"]
mod stand_in;
mod standing;
mod strays;
mod support;
mod taps;
mod ui;
