//! Who is connected to this hub: counts under their bounds, given back by guards.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;

use super::client_address::Client;
use super::fanout::ConnectionId;
use crate::auth::Subject;

/// The bounds of the registry.
#[derive(Debug, Clone)]
pub struct RegistryLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Among them, those that have not said who they are.
    pub unauthenticated_max: usize,
    /// Among those, the ones of one address (of one /64 for IPv6).
    pub unauthenticated_per_address_max: usize,
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
    /// Of those that have not said who they are; so it is no larger than their number.
    addresses: DashMap<IpAddr, usize>,
}

/// Why there is no place for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The hub has as many as it may.
    Hub,
    /// The address has as many that have not said who they are.
    Address,
}

/// A place among the connections; dropping it gives the place back.
pub struct Place {
    registry: Registry,
    /// Names the connection.
    pub id: ConnectionId,
    subject: Option<Subject>,
    /// Until the connection says who it is.
    address: Option<IpAddr>,
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
            addresses: DashMap::new(),
        }))
    }

    /// A place for a connection that has not said who it is.
    ///
    /// # Errors
    /// There is no place left, for anybody or for this client.
    pub fn admit(&self, client: Client) -> Result<Place, Full> {
        let shared = &self.0;
        let address = match client {
            Client::At(address) => Some(address),
            Client::Unknown => None,
        };
        if let Some(address) = address {
            let mut count = shared.addresses.entry(address).or_insert(0);
            if *count >= shared.limits.unauthenticated_per_address_max {
                return Err(Full::Address);
            }
            *count += 1;
        }
        if !take(&shared.connections, shared.limits.connections_max) {
            self.leave(address);
            return Err(Full::Hub);
        }
        if !take(&shared.unauthenticated, shared.limits.unauthenticated_max) {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            self.leave(address);
            return Err(Full::Hub);
        }
        let id = shared.next_id.fetch_add(1, Ordering::Relaxed);
        self.measure();
        Ok(Place {
            registry: self.clone(),
            id,
            subject: None,
            address,
        })
    }

    /// One connection less of this address.
    fn leave(&self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(mut count) = self.0.addresses.get_mut(&address) {
            *count -= 1;
        }
        self.0.addresses.remove_if(&address, |_, count| *count == 0);
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
        self.registry.leave(self.address.take());
        self.registry.measure();
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let shared = &self.registry.0;
        shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.registry.leave(self.address.take());
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
            unauthenticated_per_address_max: 1,
            connections_per_subject_max: 1,
        })
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let registry = registry();
        let (mut first, second) = (
            registry.admit(Client::Unknown).unwrap(),
            registry.admit(Client::Unknown).unwrap(),
        );
        assert!(
            registry.admit(Client::Unknown).is_err(),
            "two strangers at once"
        );
        let ada = Subject::new("ada").unwrap();
        assert!(first.name(&ada));
        let mut third = registry.admit(Client::Unknown).unwrap();
        assert!(!third.name(&ada), "one connection a subject");
        assert!(
            registry.admit(Client::Unknown).is_err(),
            "three connections at once"
        );
        drop((first, second));
        assert!(third.name(&ada));
        drop(third);
        assert!(registry.0.subjects.is_empty());
        assert_eq!(registry.0.connections.load(Ordering::Relaxed), 0);
        assert_eq!(registry.0.unauthenticated.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_address_has_its_places_back_when_its_connection_says_who_it_is_or_ends() {
        let registry = registry();
        let here = Client::At([203, 0, 113, 9].into());
        let there = Client::At([203, 0, 113, 10].into());
        let mut first = registry.admit(here).unwrap();
        assert_eq!(registry.admit(here).err(), Some(Full::Address));
        let other = registry.admit(there).unwrap();
        assert_eq!(registry.admit(here).err(), Some(Full::Address));
        assert!(first.name(&Subject::new("ada").unwrap()));
        let second = registry.admit(here).unwrap();
        assert_eq!(registry.admit(Client::Unknown).err(), Some(Full::Hub));
        drop((second, other, first));
        assert!(registry.0.addresses.is_empty());
    }
}
