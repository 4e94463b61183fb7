//! Faults of a scenario.

use serde_saphyr::Spanned;

use super::{Resolver, Workloads, file::fault::FaultFile};
use crate::{
    scenario::{
        Fault, FaultKind,
        fault::{CollectorFault, IntakeFault, IntakeReply},
    },
    source,
};

mod between;

impl Resolver<'_> {
    pub(super) fn fault(
        &mut self,
        fault: Spanned<FaultFile>,
        workloads: &Workloads,
        requests: u32,
    ) -> Option<Fault> {
        let file = &fault.value;
        if file.between.is_some() {
            return self.between(&fault, workloads);
        }
        let Some(at) = &file.at else {
            self.wrong(
                &fault,
                "`at` is missing: name the workload that breaks, or two by `between`",
            );
            return None;
        };
        let on_the_way = [
            ("drop_header", file.drop_header.is_some()),
            ("set_header", file.set_header.is_some()),
            ("upper_case_header", file.upper_case_header.is_some()),
            ("double_header", file.double_header.is_some()),
            ("duplicate", file.duplicate),
            ("swallow", file.swallow),
        ];
        for (key, _) in on_the_way.into_iter().filter(|(_, given)| *given) {
            self.wrong(
                &fault,
                format!("`{key}` is done to what passes between two workloads: `between: [CALLER, {}]` in place of `at`", at.value),
            );
        }
        let (is_intake, is_collector) = (at.value == "intake", at.value == "collector");
        let mut known: Vec<&str> = workloads.services.iter().map(String::as_str).collect();
        let is_service = known.contains(&at.value.as_str());
        known.extend(["intake", "collector"]);
        if !known.contains(&at.value.as_str()) {
            let suggestion = source::nearest_or_known(&at.value, known);
            self.wrong_with(
                at,
                format!("there is no workload `{}` in the system", at.value),
                suggestion,
            );
            return None;
        }
        if let Some(status) = &file.status {
            self.http_status(status);
        }
        let mut kinds = Vec::new();
        if (is_intake || is_collector) && file.next.is_some() && file.lasting.is_some() {
            self.wrong(&fault, "give either `next` or `for`, not both");
        }
        if let Some(after) = &file.retry_after {
            if !is_collector || file.status.is_none() {
                self.wrong(after, "`retry_after` is for a `status` of the collector");
            } else if after.value.0.subsec_nanos() != 0 || after.value.0.is_zero() {
                self.wrong(after, "`retry_after` is sent in whole seconds, from 1s");
            }
        }
        if is_collector && let Some(status) = &file.status {
            if !(400..600).contains(&status.value) {
                self.wrong(
                    status,
                    "the collector is scripted to refuse: give a status from 400 to 599",
                );
            }
            if file.delay.is_some() || file.reset {
                self.wrong(&fault, "the collector is scripted by a `status` alone");
            }
            kinds.push(FaultKind::Collector(CollectorFault {
                status: status.value,
                retry_after: file.retry_after.as_ref().map(|after| after.value.0),
                next: file.next,
                lasting: file.lasting.map(|lasting| lasting.0),
            }));
        } else if is_intake {
            let reply = match (&file.status, file.reset) {
                (Some(_), true) => {
                    self.wrong(&fault, "give either `status` or `reset`, not both");
                    return None;
                }
                (Some(status), false) => Some(IntakeReply::Status(status.value)),
                (None, true) => Some(IntakeReply::Reset),
                (None, false) => None,
            };
            let delay = file.delay.map(|delay| delay.0);
            if reply.is_some() || delay.is_some() {
                kinds.push(FaultKind::Intake(IntakeFault {
                    reply,
                    delay,
                    next: file.next,
                    lasting: file.lasting.map(|lasting| lasting.0),
                }));
            }
        } else {
            if file.reset || file.next.is_some() || file.lasting.is_some() {
                self.wrong(&fault, "`reset`, `next` and `for` are supported at the intake, and `next` and `for` with a `status` at the collector too; to reset a service's connection, use `abort`");
            }
            kinds.extend(file.status.as_ref().map(|status| FaultKind::Status(status.value)));
            kinds.extend(file.delay.map(|delay| FaultKind::Delay(delay.0)));
        }
        kinds.extend(file.abort.then_some(FaultKind::Abort));
        kinds.extend(file.hang.then_some(FaultKind::Hang));
        kinds.extend(file.panic.then_some(FaultKind::Panic));
        if let Some(share) = &file.error_rate {
            if !(0.0..=1.0).contains(&share.value.rate) {
                self.wrong(share, format!("`rate` is 0 to 1, not {}", share.value.rate));
            }
            kinds.push(FaultKind::ErrorRate { rate: share.value.rate, seed: share.value.seed });
        }
        kinds.extend(file.stop.then_some(FaultKind::Stop));
        kinds.extend(file.pause.then_some(FaultKind::Pause));
        kinds.extend(file.kill.then_some(FaultKind::Kill));
        kinds.extend(file.restart.then_some(FaultKind::Restart));
        if let Some(scale) = &file.scale {
            if scale.value.0 != 0 {
                self.wrong(scale, format!("a workload is scaled to 0, not to {}", scale.value.0));
            }
            kinds.push(FaultKind::ScaleToZero);
        }
        let kind = match kinds.len() {
            1 => kinds.swap_remove(0),
            0 => {
                self.wrong(
                    &fault,
                    format!("the fault at `{}` has no kind: give `status`, `delay`, …", at.value),
                );
                return None;
            }
            _ => {
                self.wrong(&fault, "a fault has one kind: write a separate fault for each");
                return None;
            }
        };
        let is_scripted = matches!(kind, FaultKind::Intake(_) | FaultKind::Collector(_));
        let acts = kind.needs_own_system() && !is_scripted;
        if is_intake && acts {
            self.wrong(
                &fault,
                "the intake is the evidence: it is scripted (`status`, `reset`, `delay`), and nothing else is done to it",
            );
        }
        let travels = !kind.needs_own_system();
        if travels && !is_service {
            self.wrong(
                at,
                format!("`{}` does not support faults by request: use a fault that acts on the workload (`stop`, `pause`, `kill`, `restart`, `scale`)", at.value),
            );
        } else if travels && !workloads.builtin {
            self.wrong(at, format!("`{}` is not a sample app, so faults by request are not supported there: use a fault that acts on the workload (`stop`, `pause`, `kill`, `restart`, `scale`)", at.value));
        }
        if file.first.is_some() && !travels {
            self.wrong(&fault, "`first` is for faults that travel with the request");
        }
        if let Some(after) = &file.after {
            if !acts {
                self.wrong(after, "`after` is supported only for faults that act on the workload (`stop`, `pause`, `kill`, `restart`, `scale`)");
            } else if after.value >= requests {
                self.wrong(
                    after,
                    format!(
                        "`after: {}` leaves no request to send after the fault; the scenario sends {requests}",
                        after.value
                    ),
                );
            }
        }
        let after = file.after.as_ref().map(|after| after.value);
        Some(Fault { at: at.value.clone(), kind, first: file.first, after })
    }
}
