-- How old the newest backup is, as the trail says; infinite where the trail has none.
set local role pandom_trail;

create or replace function public.measure_backup()
returns float8
language sql
stable
security definer
set search_path = ''
as $$
    select coalesce(extract(epoch from now() - max(s.timestamp)), 'infinity')::float8
    from public.security_logs as s
    where s.event_type = 'backup_made'
$$;

comment on function public.measure_backup() is
'For monitoring: seconds since the newest backup; infinite where there is none.';
