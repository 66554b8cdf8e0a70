//! Values by number: the parts of a world repeat far more often than the whole does.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// Each different value once.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    numbers: HashMap<Rc<T>, u32>,
    values: Vec<Rc<T>>,
}

impl<T: Hash + Eq> Interned<T> {
    pub(crate) fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            values: Vec::new(),
        }
    }

    /// The number of a value.
    pub(crate) fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let value = Rc::new(value);
        self.values.push(Rc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    /// The value of a number that was given.
    pub(crate) fn get(&self, number: u32) -> Rc<T> {
        Rc::clone(&self.values[number as usize])
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}
