//! How states and steps look in a trace.

use super::step::Step;
use super::{NONE, State, World};

impl World {
    /// How a state looks, in a line.
    pub fn show(&self, state: &State) -> String {
        let hub = self.hubs.get(state.hub);
        let holder = hub.state.workers.holder(0);
        let reached = holder
            .map(|holder| holder.progress.reached)
            .unwrap_or_default();
        let mut line = format!(
            "hub {}:{} published {}/{}",
            reached.session, reached.sequence, hub.published[0].last, hub.published[1].last
        );
        for (name, number) in [("worker", state.worker), ("older", state.older)] {
            if number != NONE {
                let worker = self.workers.get(number);
                let health = worker.feed.health(0);
                line += &format!(
                    "; {name} g{} read {}:{} acked {}:{} waiting {} debts {} silent {} asking {}",
                    health.generation,
                    health.read.session,
                    health.read.sequence,
                    health.acknowledged_to.session,
                    health.acknowledged_to.sequence,
                    health.outbox_events,
                    health.debts,
                    health.silent,
                    health.gaps,
                );
            }
        }
        line
    }

    /// How a step looks.
    pub fn name(&self, step: Step) -> String {
        match step {
            Step::Moves {
                guild,
                user,
                legible,
            } => {
                let how = if legible { "" } else { ", illegibly" };
                format!("member {user} of guild {guild} moves{how}")
            }
            Step::Claims => "a worker claims".to_owned(),
            Step::Second => "a second worker claims".to_owned(),
            Step::Reads => "it reads".to_owned(),
            Step::Sends(whose, delivery) => {
                format!("{whose} sends {}", self.delivery(delivery))
            }
            Step::Beats(whose) => format!("{whose} beats"),
            Step::SendsAgain(whose, delivery) => {
                format!(
                    "{whose} hears nothing, sends again {}",
                    self.delivery(delivery)
                )
            }
            Step::GivesUp(whose) => format!("{whose} hears nothing, will send another"),
            Step::TimesOut(whose) => format!("{whose} waits no longer"),
            Step::Asks => "Discord's REST looks".to_owned(),
            Step::Hears => "it hears what REST saw".to_owned(),
            Step::Identifies => "it identifies".to_owned(),
            Step::Ends => "the older worker ends".to_owned(),
            Step::ClaimsAgain(whose) => format!("{whose} claims again"),
            Step::Arrives(delivery, answer) => format!(
                "arrives {}, answered {}",
                self.delivery(delivery),
                self.answer(answer)
            ),
            Step::AnswerLost(delivery, answer) => format!(
                "arrives {}, answered {}, which is lost",
                self.delivery(delivery),
                self.answer(answer)
            ),
            Step::ArrivesTwice(delivery, answer) => format!(
                "arrives {}, answered {}; it will come again",
                self.delivery(delivery),
                self.answer(answer)
            ),
            Step::Lost(delivery) => format!("lost {}", self.delivery(delivery)),
            Step::Dies => "the worker dies".to_owned(),
            Step::Expires => "the session expires".to_owned(),
            Step::Stalls => "the connection is lost, and no RESUME is answered".to_owned(),
            Step::Resumes => "it sends a RESUME".to_owned(),
            Step::Wiped => "the hub loses its store".to_owned(),
            Step::Copied => "the store is copied".to_owned(),
            Step::Restored => "the store is replaced by the copy".to_owned(),
        }
    }

    fn delivery(&self, number: u32) -> String {
        if number == NONE {
            return "?".to_owned();
        }
        let delivery = self.deliveries.get(number);
        let link = &delivery.link;
        let mut text = format!(
            "g{} {}:{}→{}:{}",
            link.generation,
            link.from.session,
            link.from.sequence,
            link.to.session,
            link.to.sequence
        );
        for event in &delivery.events {
            let at = event.at.unwrap_or_default();
            text += &format!(
                " [{} {}:{}:{} {}]",
                event.fact.guild_id(),
                at.reached.session,
                at.reached.sequence,
                at.n,
                fact(&event.fact)
            );
        }
        text
    }

    fn answer(&self, number: u32) -> String {
        if number == NONE {
            return "?".to_owned();
        }
        match self.answers.get(number).as_ref() {
            Ok(receipt) => format!(
                "{}+{}{}",
                receipt.accepted,
                receipt.duplicates,
                if receipt.wanted.is_empty() {
                    ""
                } else {
                    " wanted"
                }
            ),
            Err(conflict) => format!("{conflict:?}"),
        }
    }
}

fn fact(fact: &proto::event::Fact) -> String {
    use proto::event::Fact;
    let name = |voice: &proto::event::Voice| {
        let member = voice.member.as_ref();
        member.map_or_else(String::new, |member| member.display_name.clone())
    };
    match fact {
        Fact::VoiceJoined(voice) => format!("joined {}", name(voice)),
        Fact::VoiceLeft(voice) => format!("left {}", name(voice)),
        Fact::VoiceStateChanged(voice) => format!("changed {}", name(voice)),
        Fact::Snapshot(roster) => {
            let voices: Vec<String> = roster.voices.iter().map(name).collect();
            format!("snapshot {} {{{}}}", roster.reason, voices.join(" "))
        }
        other => format!("{other:?}"),
    }
}
