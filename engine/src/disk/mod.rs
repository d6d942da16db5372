//! stub
#![allow(missing_docs)]
use std::sync::Arc;
use corefold_shards::wal::*;
#[derive(Debug, thiserror::Error)] #[error("disk")] pub struct DiskError;
pub struct StoreDirectory; impl StoreDirectory{ pub fn open(_:&std::path::Path,_:&str)->Result<StoreDirectory,DiskError>{unreachable!()} pub fn meta(&self)->&str{""} } pub struct ShardDirectory; pub struct Segs;
impl SegmentSource for Segs { fn list(&mut self)->std::io::Result<Vec<SegmentId>>{unreachable!()} fn length(&mut self,_:SegmentId)->std::io::Result<u64>{unreachable!()} fn read_at(&mut self,_:SegmentId,_:u64,_:&mut [u8])->std::io::Result<usize>{unreachable!()} }
impl StoreDirectory { pub fn shards(&self)->Result<Vec<u32>,DiskError>{unreachable!()} pub fn shard(&self,_:u32)->Result<ShardDirectory,DiskError>{unreachable!()} pub fn identity(&self,_:u32)->LogIdentity{unreachable!()} }
impl ShardDirectory { pub fn segments(&self)->Result<Segs,DiskError>{unreachable!()} pub fn name(&self)->String{unreachable!()} pub fn begin(&self,_:Option<&Recovered>)->Result<ResumePoint,DiskError>{unreachable!()} }
pub struct ShardDisk;
impl ShardDisk { pub fn open(_:ShardDirectory,_:&Appender)->Result<ShardDisk,DiskError>{unreachable!()} pub fn submit(&mut self,_:&[DiskRequest])->Result<(),DiskError>{unreachable!()} pub fn reap(&mut self,_:&mut Vec<DiskCompletion>){} pub fn close(self){} pub fn name(&self)->String{unreachable!()} pub fn in_flight(&self)->usize{0} pub async fn wait(&mut self,_:std::time::Duration){} }
