-- Takes the chain away; its blocks wait in schema trail_archive, as the rows do (M3).
set local role pandom_trail;

create table trail_archive.trail_blocks (like public.trail_blocks);
insert into trail_archive.trail_blocks select * from public.trail_blocks;

drop function public.seal_trail(integer);
drop function public.trail_block_hash(public.trail_blocks);
drop table public.trail_blocks;
drop index public.idx_audit_logs_chain;
drop index public.idx_security_logs_chain;
