//! Faults of a scenario on what passes between two workloads.

use harness_core::wire::WireAction;
use serde_saphyr::Spanned;

use super::super::{Resolver, Workloads, file::fault::FaultFile};
use crate::{
    scenario::{Fault, FaultKind, fault::Between},
    source,
};

impl Resolver<'_> {
    pub(super) fn between(
        &mut self,
        fault: &Spanned<FaultFile>,
        workloads: &Workloads,
    ) -> Option<Fault> {
        let file = &fault.value;
        let names = file.between.as_ref()?;
        let [caller, callee] = names.value.as_slice() else {
            self.wrong(
                names,
                "`between` names two workloads, the one that calls first: `between: [shop, pay]`",
            );
            return None;
        };
        if file.at.is_some() {
            self.wrong(fault, "give one of `at` and `between`");
        }
        let known = || {
            let services = workloads.services.iter().map(String::as_str);
            services.chain(["collector", "intake"])
        };
        for name in [caller, callee] {
            if !known().any(|known| known == name) {
                let message = format!("there is no workload `{name}` in the system");
                self.wrong_with(names, message, source::nearest_or_known(name, known()));
                return None;
            }
        }
        if let Some(system) = &workloads.system
            && let Err(error) = system.clone().put_between(caller, callee)
        {
            self.wrong(names, error.to_string());
        }
        let other_ways = [
            ("abort", file.abort),
            ("hang", file.hang),
            ("panic", file.panic),
            ("error_rate", file.error_rate.is_some()),
            ("first", file.first.is_some()),
            ("stop", file.stop),
            ("pause", file.pause),
            ("kill", file.kill),
            ("restart", file.restart),
            ("scale", file.scale.is_some()),
            ("after", file.after.is_some()),
            ("reset", file.reset),
            ("for", file.lasting.is_some()),
            ("retry_after", file.retry_after.is_some()),
        ];
        for (key, _) in other_ways.into_iter().filter(|(_, given)| *given) {
            self.wrong(
                fault,
                format!("`{key}` is done `at` a workload, and not to what passes between two"),
            );
        }
        if let Some(status) = &file.status {
            self.http_status(status);
        }
        for name in
            [&file.drop_header, &file.upper_case_header, &file.double_header].into_iter().flatten()
        {
            self.wire_header(name, &name.value);
        }
        let mut does: Vec<WireAction> = Vec::new();
        if let Some(set) = &file.set_header {
            let mut headers = set.value.iter();
            match (headers.next(), headers.next()) {
                (Some((name, value)), None) => {
                    self.wire_header(set, name);
                    if http::HeaderValue::from_str(value).is_err() {
                        self.wrong(set, format!("`{value}` cannot be the value of a header"));
                    }
                    let (name, value) = (name.to_ascii_lowercase(), value.clone());
                    does.push(WireAction::SetHeader { name, value });
                }
                _ => {
                    self.wrong(
                        set,
                        "`set_header` is one header, with its value: `set_header: { traceparent: … }`",
                    );
                    return None;
                }
            }
        }
        let lower = |name: &Spanned<String>| name.value.to_ascii_lowercase();
        does.extend(file.drop_header.as_ref().map(|name| WireAction::DropHeader(lower(name))));
        does.extend(
            file.upper_case_header.as_ref().map(|name| WireAction::UpperCaseHeader(lower(name))),
        );
        does.extend(file.double_header.as_ref().map(|name| WireAction::DoubleHeader(lower(name))));
        does.extend(file.duplicate.then_some(WireAction::Duplicate));
        does.extend(file.swallow.then_some(WireAction::Swallow));
        does.extend(file.status.as_ref().map(|status| WireAction::Status(status.value)));
        does.extend(file.delay.map(|delay| WireAction::Delay(delay.0)));
        let does = match does.len() {
            1 => does.swap_remove(0),
            0 => {
                self.wrong(
                    fault,
                    format!("says nothing of what is done between `{caller}` and `{callee}`: give `drop_header`, `status`, `delay`, …"),
                );
                return None;
            }
            _ => {
                self.wrong(fault, "does several things: write a fault of its own for each");
                return None;
            }
        };
        let between = Between { caller: caller.clone(), does, next: file.next };
        Some(Fault {
            at: callee.clone(),
            kind: FaultKind::Between(between),
            first: None,
            after: None,
        })
    }

    fn wire_header<T>(&mut self, at: &Spanned<T>, name: &str) {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.wrong(at, format!("`{name}` cannot be the name of a header"));
        }
    }
}
