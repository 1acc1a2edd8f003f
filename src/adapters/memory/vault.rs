//! Owns the data keys of the store in memory.

use async_trait::async_trait;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::store::MemoryStore;
use crate::domain::{AuditBody, Stream, TenantId};
use crate::ports::StoreError;
use crate::ports::vault::{EraseAct, Erased, KeyRow, Made, MasterId, Survey, Tag, Vault, VaultState};

/// The keys by owner, and in which erasure each was destroyed.
#[derive(Default)]
pub(super) struct DataKeys {
    generation: i64,
    master: Option<MasterId>,
    rows: BTreeMap<(TenantId, Tag), (KeyRow, Option<i64>)>,
}

impl DataKeys {
    fn row(&self, tenant: &TenantId, tag: Tag) -> Option<&KeyRow> {
        self.rows.get(&(tenant.clone(), tag)).map(|(row, _)| row)
    }

    fn of_tenant(&self, tenant: &TenantId) -> impl Iterator<Item = &KeyRow> {
        let whole = (tenant.clone(), Tag::OWN)..=(tenant.clone(), Tag([u8::MAX; 16]));
        self.rows.range(whole).map(|(_, (row, _))| row)
    }

    fn is_gone(&self, tenant: &TenantId, tag: Tag) -> bool {
        self.row(tenant, tag).is_some_and(|row| row.wrapped.is_none())
    }

    fn make(&mut self, master: MasterId, new: &[KeyRow]) -> Made {
        match self.master {
            Some(holds) if holds == master => {}
            holds => return Made::OtherMaster(holds.unwrap_or(master)),
        }
        let mut given = Vec::new();
        for row in new {
            if row.tag != Tag::OWN && self.is_gone(&row.tenant, Tag::OWN) {
                given.extend(self.row(&row.tenant, Tag::OWN).cloned());
                continue;
            }
            let place = (row.tenant.clone(), row.tag);
            given.push(self.rows.entry(place).or_insert_with(|| (row.clone(), None)).0.clone());
        }
        Made::Keys(given)
    }

    /// Counts the keys of an erasure that can still be used.
    fn live(&self, tenant: &TenantId, tag: Tag) -> u64 {
        let fits = |row: &&KeyRow| row.wrapped.is_some() && (tag == Tag::OWN || row.tag == tag);
        if self.is_gone(tenant, Tag::OWN) { 0 } else { self.of_tenant(tenant).filter(fits).count() as u64 }
    }

    fn erase(&mut self, tenant: &TenantId, tag: Tag) -> Option<u64> {
        if self.is_gone(tenant, Tag::OWN) || self.is_gone(tenant, tag) {
            return None;
        }
        let keys = self.live(tenant, tag);
        self.generation += 1;
        let stone = KeyRow {
            tenant: tenant.clone(),
            tag,
            id: Uuid::from_u128(self.generation as u128),
            wrapped: None,
            master: None,
        };
        let (row, generation) = self.rows.entry((tenant.clone(), tag)).or_insert((stone, None));
        (row.wrapped, *generation) = (None, Some(self.generation));
        Some(keys)
    }
}

#[async_trait]
impl Vault for MemoryStore {
    async fn state(&self) -> Result<VaultState, StoreError> {
        let tables = self.tables()?;
        Ok(VaultState { generation: tables.data_keys.generation, master: tables.data_keys.master })
    }

    async fn adopt(&self, master: MasterId) -> Result<MasterId, StoreError> {
        Ok(*self.tables()?.data_keys.master.get_or_insert(master))
    }

    async fn make_keys(&self, master: MasterId, new: &[KeyRow]) -> Result<Made, StoreError> {
        Ok(self.tables()?.data_keys.make(master, new))
    }

    async fn keys_of(&self, owners: &[(TenantId, Tag)]) -> Result<Vec<KeyRow>, StoreError> {
        let tables = self.tables()?;
        Ok(owners.iter().filter_map(|(tenant, tag)| tables.data_keys.row(tenant, *tag).cloned()).collect())
    }

    async fn keys_named(&self, ids: &[Uuid]) -> Result<Vec<KeyRow>, StoreError> {
        let tables = self.tables()?;
        let keys = &tables.data_keys;
        let mut found: Vec<KeyRow> =
            keys.rows.values().filter(|(row, _)| ids.contains(&row.id)).map(|(row, _)| row.clone()).collect();
        let tenants: std::collections::BTreeSet<TenantId> = found.iter().map(|row| row.tenant.clone()).collect();
        let own = tenants.iter().filter_map(|tenant| keys.row(tenant, Tag::OWN)).cloned();
        let own: Vec<KeyRow> = own.filter(|row| !ids.contains(&row.id)).collect();
        found.extend(own);
        Ok(found)
    }

    async fn erased_since(&self, generation: i64, limit: u32) -> Result<Vec<Erased>, StoreError> {
        let tables = self.tables()?;
        let behind = tables.data_keys.rows.values().filter(|(_, at)| at.is_some_and(|at| at > generation));
        let erased = |(row, _): &(KeyRow, _)| Erased { tenant: row.tenant.clone(), tag: row.tag };
        Ok(behind.take(limit as usize).map(erased).collect())
    }

    async fn survey(&self, tenant: &TenantId, tag: Tag) -> Result<Survey, StoreError> {
        let tables = self.tables()?;
        let keys = &tables.data_keys;
        let key = keys.row(tenant, tag).map(|row| row.id);
        let sealed_so = |body: &[u8]| tag == Tag::OWN || crate::crypto::envelope::key_id(body) == key && key.is_some();
        let events = tables.events.values().filter(|event| event.tenant == *tenant && sealed_so(&event.body));
        Ok(Survey {
            keys: keys.live(tenant, tag),
            events: Some(events.count() as u64),
            erased: keys.is_gone(tenant, tag) || keys.is_gone(tenant, Tag::OWN),
        })
    }

    /// Nobody holds a tenant here.
    async fn erase(&self, tenant: &TenantId, tag: Tag, audit: &AuditBody) -> Result<EraseAct, StoreError> {
        if (&audit.tenant_id, audit.stream) != (tenant, Stream::Control) {
            return Err(StoreError::Fault(format!("erase for {tenant}: its audit record is of another chain")));
        }
        let mut tables = self.tables()?;
        let Some(keys) = tables.data_keys.erase(tenant, tag) else { return Ok(EraseAct::Already) };
        tables.append_control(tenant, audit)?;
        Ok(EraseAct::Done(keys))
    }

    async fn change_master(&self, master: MasterId, audit: &AuditBody) -> Result<bool, StoreError> {
        let mut tables = self.tables()?;
        if tables.data_keys.master == Some(master) {
            return Ok(false);
        }
        tables.data_keys.master = Some(master);
        tables.append_control(&TenantId::platform(), audit)?;
        Ok(true)
    }

    async fn under_others(&self, master: MasterId, limit: u32) -> Result<Vec<KeyRow>, StoreError> {
        let tables = self.tables()?;
        let other = |row: &&KeyRow| row.wrapped.is_some() && row.master.is_some_and(|under| under != master);
        Ok(tables.data_keys.rows.values().map(|(row, _)| row).filter(other).take(limit as usize).cloned().collect())
    }

    async fn rewrap(&self, rows: &[(KeyRow, KeyRow)]) -> Result<u64, StoreError> {
        let mut tables = self.tables()?;
        let mut done = 0;
        for (before, after) in rows {
            if let Some((row, _)) = tables.data_keys.rows.get_mut(&(before.tenant.clone(), before.tag))
                && row == before
            {
                *row = after.clone();
                done += 1;
            }
        }
        Ok(done)
    }
}
