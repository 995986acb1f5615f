-- The trail proves itself: blocks of sealed rows, each holding the hash of the one before.
set local role pandom_trail;

create table public.trail_blocks (
    log text not null,
    number bigint not null,
    month date not null,
    first_epoch integer not null,
    first_tx xid8 not null,
    first_id bigint not null,
    last_epoch integer not null,
    last_tx xid8 not null,
    last_id bigint not null,
    row_count integer not null,
    rows_digest bytea not null,
    row_marks bytea not null,
    previous_hash bytea not null,
    hash bytea not null,
    sealed_at timestamptz not null default current_timestamp,
    constraint pk_trail_blocks primary key (log, number),
    constraint uq_trail_blocks_previous unique (log, previous_hash),
    constraint ck_trail_blocks_log check (log in ('audit_logs', 'security_logs')),
    constraint ck_trail_blocks_number check (number >= 1 and row_count >= 1),
    constraint ck_trail_blocks_hashes check (
        octet_length(rows_digest) = 32 and octet_length(previous_hash) = 32
        and octet_length(hash) = 32 and octet_length(row_marks) = 16 * row_count
    )
);

-- Hashes hardly compress: trying to took a quarter of the sealer's time.
alter table public.trail_blocks alter column row_marks set storage external;

-- A partitioned table cannot have an index built concurrently; the trail is young here.
-- squawk-ignore require-concurrent-index-creation
create index idx_audit_logs_chain on public.audit_logs (epoch, tx, id);
-- squawk-ignore require-concurrent-index-creation
create index idx_security_logs_chain on public.security_logs (epoch, tx, id);

alter table public.trail_blocks enable row level security;
alter table public.trail_blocks force row level security;

comment on table public.trail_blocks is
'Sealed blocks of the trail, a hash chain for each table: append-only. P5';
comment on column public.trail_blocks.log is
'audit_logs or security_logs.';
comment on column public.trail_blocks.number is
'The block''s place in its chain, from 1 without a gap.';
comment on column public.trail_blocks.month is
'The month (UTC) of all of its rows, so that a month can be archived with its blocks.';
comment on column public.trail_blocks.first_epoch is
'Epoch of the first row.';
comment on column public.trail_blocks.first_tx is
'Transaction of the first row.';
comment on column public.trail_blocks.first_id is
'Number of the first row.';
comment on column public.trail_blocks.last_epoch is
'Epoch of the last row.';
comment on column public.trail_blocks.last_tx is
'Transaction of the last row.';
comment on column public.trail_blocks.last_id is
'Number of the last row.';
comment on column public.trail_blocks.row_count is
'How many rows it seals.';
comment on column public.trail_blocks.rows_digest is
'SHA-256 over the binary form of its rows in the order (epoch, tx, id).';
comment on column public.trail_blocks.row_marks is
'For each row its id and a short hash: names the row when the digest is wrong; no proof.';
comment on column public.trail_blocks.previous_hash is
'The hash of the block before; 32 zero bytes in the first.';
comment on column public.trail_blocks.hash is
'SHA-256 over the block''s columns and previous_hash.';
comment on column public.trail_blocks.sealed_at is
'When it was sealed.';
comment on constraint pk_trail_blocks on public.trail_blocks is
'One block a place in a chain. P5';
comment on constraint uq_trail_blocks_previous on public.trail_blocks is
'A chain does not fork. P5';
comment on constraint ck_trail_blocks_log on public.trail_blocks is
'The two tables of the trail. P5';
comment on constraint ck_trail_blocks_number on public.trail_blocks is
'Places count from 1, and no block is empty. P5';
comment on constraint ck_trail_blocks_hashes on public.trail_blocks is
'Hashes are SHA-256; a mark has 16 bytes. P5';
comment on index public.pk_trail_blocks is
'Finds a block by its place in a chain. P5';
comment on index public.uq_trail_blocks_previous is
'Finds what follows a block. P5';
comment on index public.idx_audit_logs_chain is
'The order in which rows are sealed and verified. P5';
comment on index public.idx_security_logs_chain is
'The order in which rows are sealed and verified. P5';
