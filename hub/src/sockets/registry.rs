//! Who is connected to this hub: counts under their bounds, given back by guards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::fanout::ConnectionId;
use crate::auth::Subject;

/// The bounds of the registry.
#[derive(Debug, Clone)]
pub struct RegistryLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Among them, those that have not said who they are.
    pub unauthenticated_max: usize,
    /// Connections of one subject.
    pub connections_per_subject_max: usize,
}

/// The connections of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    limits: RegistryLimits,
    next_id: AtomicU64,
    connections: AtomicUsize,
    unauthenticated: AtomicUsize,
    subjects: DashMap<Subject, usize>,
}

/// A place among the connections; dropping it gives the place back.
pub struct Place {
    registry: Registry,
    /// Names the connection.
    pub id: ConnectionId,
    subject: Option<Subject>,
}

impl Registry {
    /// Nobody yet.
    pub fn new(limits: RegistryLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            next_id: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            unauthenticated: AtomicUsize::new(0),
            subjects: DashMap::new(),
        }))
    }

    /// A place for a connection that has not said who it is; `None` when there is none left.
    pub fn admit(&self) -> Option<Place> {
        let shared = &self.0;
        if !take(&shared.connections, shared.limits.connections_max) {
            return None;
        }
        if !take(&shared.unauthenticated, shared.limits.unauthenticated_max) {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        self.measure();
        Some(Place {
            registry: self.clone(),
            id,
            subject: None,
        })
    }

    fn measure(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge; exact up to 2^52 connections"
        )]
        {
            metrics::gauge!("hub_sockets_connections")
                .set(self.0.connections.load(Ordering::Relaxed) as f64);
            metrics::gauge!("hub_sockets_unauthenticated")
                .set(self.0.unauthenticated.load(Ordering::Relaxed) as f64);
        }
    }
}

impl Place {
    /// The connection said who it is; false if its subject has too many connections already.
    #[must_use]
    pub fn name(&mut self, subject: &Subject) -> bool {
        if self.subject.is_some() {
            return true;
        }
        let shared = &self.registry.0;
        let mut count = shared.subjects.entry(subject.clone()).or_insert(0);
        if *count >= shared.limits.connections_per_subject_max {
            return false;
        }
        *count += 1;
        drop(count);
        shared.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        self.subject = Some(subject.clone());
        self.registry.measure();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.registry.0;
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        match self.subject.take() {
            None => {
                shared.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            }
            Some(subject) => {
                if let Some(mut count) = shared.subjects.get_mut(&subject) {
                    *count -= 1;
                }
                shared.subjects.remove_if(&subject, |_, count| *count == 0);
            }
        }
        self.registry.measure();
    }
}

fn take(count: &AtomicUsize, max: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| {
            (now < max).then_some(now + 1)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(RegistryLimits {
            connections_max: 3,
            unauthenticated_max: 2,
            connections_per_subject_max: 1,
        })
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let registry = registry();
        let (mut first, second) = (registry.admit().unwrap(), registry.admit().unwrap());
        assert!(registry.admit().is_none(), "two strangers at once");
        let ada = Subject::new("ada").unwrap();
        assert!(first.name(&ada));
        let mut third = registry.admit().unwrap();
        assert!(!third.name(&ada), "one connection a subject");
        assert!(registry.admit().is_none(), "three connections at once");
        drop((first, second));
        assert!(third.name(&ada));
        drop(third);
        assert!(registry.0.subjects.is_empty());
        assert_eq!(registry.0.connections.load(Ordering::Relaxed), 0);
        assert_eq!(registry.0.unauthenticated.load(Ordering::Relaxed), 0);
    }
}
