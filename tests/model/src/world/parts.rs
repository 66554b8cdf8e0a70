//! What comes of parts: the questions that are answered once.

use proto::chain::Link;

use super::{NONE, Outcome, Question, World, narrow};
use crate::discord::Discord;
use crate::hub::Hub;
use crate::worker::{Delivery, Worker};

impl World {
    pub(super) fn work_out(&mut self, question: Question, [a, b, c]: [u32; 3]) -> Outcome {
        match question {
            Question::Claim => self.begin(a, narrow(b), c),
            Question::Deliver => {
                let (mut hub, delivery) = (Hub::clone(&self.hubs.get(a)), self.deliveries.get(b));
                let answer = hub.deliver(&delivery, &self.discords.get(c))?;
                let plain = answer
                    .as_ref()
                    .is_ok_and(|receipt| receipt.wanted.is_empty());
                Ok([
                    self.hubs.number(hub),
                    self.answers.number(answer),
                    u32::from(plain),
                ])
            }
            Question::Answer => {
                let mut worker = Worker::clone(&self.workers.get(a));
                let goes_on = worker.answered(&self.deliveries.get(b), &self.answers.get(c));
                let worker = if goes_on {
                    self.workers.number(worker)
                } else {
                    NONE
                };
                Ok([worker, NONE, NONE])
            }
            Question::Send => {
                let mut worker = Worker::clone(&self.workers.get(a));
                let Some(delivery) = worker.send() else {
                    return Ok([NONE; 3]);
                };
                form(&delivery.link)?;
                let says = !delivery.events.is_empty() || delivery.link.from < delivery.link.to;
                Ok([
                    self.workers.number(worker),
                    self.deliveries.number(Delivery::clone(&delivery)),
                    u32::from(says),
                ])
            }
            Question::TimeOut => {
                let mut worker = Worker::clone(&self.workers.get(a));
                let Some(flight) = worker.flight.clone() else {
                    return Ok([NONE; 3]);
                };
                let again = worker.time_out();
                Ok([
                    self.workers.number(worker),
                    self.deliveries.number(Delivery::clone(&flight)),
                    u32::from(again),
                ])
            }
            Question::Checkpoint => {
                self.hubs.get(a).check_checkpoint(&self.discords.get(b))?;
                Ok([NONE; 3])
            }
            Question::Rest => {
                let (hub, worker) = (self.hubs.get(a), self.workers.get(b));
                hub.check_rest(&worker, &self.discords.get(c))?;
                Ok([NONE; 3])
            }
            Question::Read
            | Question::Resume
            | Question::Ask
            | Question::Hear
            | Question::Identify => Ok(self.turn(question, a, b)),
        }
    }

    fn begin(&mut self, hub: u32, tick: u8, discord: u32) -> Outcome {
        let mut hub = Hub::clone(&self.hubs.get(hub));
        let mut discord = Discord::clone(&self.discords.get(discord));
        let claimed = hub.claim(tick)?;
        let known = claimed.guilds.clone();
        let resumes = claimed.checkpoint.is_some();
        let checkpoint = claimed.checkpoint.as_ref();
        if let Some(lost) = checkpoint.filter(|known| known.session.number <= hub.lost) {
            return Err(format!("a lost session is to be resumed: {lost:?}"));
        }
        let worker = Worker::start(claimed, &self.bounds, &mut discord);
        for guild in known {
            let id = guild.roster.guild_id;
            let mut restored = worker.feed.roster(id);
            if let Some(restored) = &mut restored {
                restored.reason.clone_from(&guild.roster.reason);
            }
            if restored.as_ref() != Some(&guild.roster) {
                return Err(format!(
                    "guild {id} was restored as {restored:?}\n     from {:?} (checkpoint: {resumes})",
                    guild.roster
                ));
            }
        }
        Ok([
            self.hubs.number(hub),
            self.workers.number(worker),
            self.discords.number(discord),
        ])
    }

    /// What the connection and the questions do; nothing: `NONE`.
    fn turn(&mut self, question: Question, worker: u32, discord_number: u32) -> [u32; 3] {
        let mut worker = Worker::clone(&self.workers.get(worker));
        let mut discord = Discord::clone(&self.discords.get(discord_number));
        let happens = match question {
            Question::Read => {
                let can = worker.can_read(&discord);
                if can {
                    worker.read(&discord);
                }
                can
            }
            Question::Resume => worker.resume_again(&mut discord),
            Question::Ask => worker.ask(&discord),
            Question::Hear => {
                let can = worker.asked.is_some();
                worker.hear();
                can
            }
            _ => {
                let must = worker.must_identify(&discord);
                if must {
                    worker.identify(&mut discord);
                }
                must
            }
        };
        if !happens {
            return [NONE; 3];
        }
        [
            self.workers.number(worker),
            self.discords.number(discord),
            NONE,
        ]
    }
}

/// Whether a link is as the protocol's document wants it.
fn form(link: &Link) -> Result<(), String> {
    if link.to < link.from {
        return Err(format!("`to` is before `from`: {link:?}"));
    }
    let session = link.session.as_ref().map(|session| session.number);
    if session.map_or(link.to > link.from, |number| number != link.to.session) {
        return Err(format!("`session` is not the one of `to`: {link:?}"));
    }
    Ok(())
}
