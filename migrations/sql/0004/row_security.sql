-- Row security, enabled and forced: their owners are under it, too (P2).
set local role pandom_owner;
alter table public.auth_users enable row level security;
alter table public.auth_users force row level security;
alter table public.user_profiles enable row level security;
alter table public.user_profiles force row level security;
alter table public.sessions enable row level security;
alter table public.sessions force row level security;

set local role pandom_trail;
alter table public.audit_logs enable row level security;
alter table public.audit_logs force row level security;
alter table public.security_logs enable row level security;
alter table public.security_logs force row level security;

-- A parent passes nothing of this on to its partitions.
select public.protect_partition(p.relname, c.relname)
from pg_catalog.pg_inherits as i
inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
inner join pg_catalog.pg_class as p on i.inhparent = p.oid
where p.oid in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)
    and not c.relrowsecurity
    and c.relkind = 'r';

select public.ensure_partitions();
