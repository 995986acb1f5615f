-- The hash of a block: over its own columns and the hash of the block before.
--
-- The auditor's check computes it with a query of its own, not with this function:
-- whoever could change the function could make any chain fit.
set local role pandom_trail;

create or replace function public.trail_block_hash(block public.trail_blocks)
returns bytea
language sql
stable
parallel safe
set search_path = ''
set client_encoding = 'UTF8'
return sha256(record_send(row(
    (block).log, (block).number, (block).month,
    (block).first_epoch, (block).first_tx, (block).first_id,
    (block).last_epoch, (block).last_tx, (block).last_id,
    (block).row_count, (block).rows_digest, (block).previous_hash, (block).sealed_at
)));

comment on function public.trail_block_hash(public.trail_blocks) is
'The hash of a block: over its columns and the hash of the block before.';
