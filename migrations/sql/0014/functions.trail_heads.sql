-- The newest block of each log, and how many rows the log has.
--
-- A drill compares them with those of the restored copy; it reads no row.
set local role pandom_trail;

create or replace function public.trail_heads(
    out log text, out number bigint, out hash text, out row_count bigint
)
returns setof record
language sql
stable
security definer
set search_path = ''
as $$
select
    'audit_logs',
    (select max(b.number) from public.trail_blocks as b where b.log = 'audit_logs'),
    (
        select encode(b.hash, 'hex') from public.trail_blocks as b
        where b.log = 'audit_logs' order by b.number desc limit 1
    ),
    (select count(*) from public.audit_logs)
union all
select
    'security_logs',
    (select max(b.number) from public.trail_blocks as b where b.log = 'security_logs'),
    (
        select encode(b.hash, 'hex') from public.trail_blocks as b
        where b.log = 'security_logs' order by b.number desc limit 1
    ),
    (select count(*) from public.security_logs);
$$;

comment on function public.trail_heads() is
'The newest block of each log, and how many rows the log has.';
