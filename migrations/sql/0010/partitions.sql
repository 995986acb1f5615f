-- Comments of the partitions that are there.
set local role pandom_trail;

do $$
declare
    part record;
begin
    for part in
        select i.inhrelid::regclass as name, i.inhparent::regclass::text as log
        from pg_catalog.pg_inherits as i
        where i.inhparent in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)
    loop
        execute format(
            'comment on policy trail_maintenance on %s is %L', part.name,
            'The trail''s owner is under FORCE too; nobody else reaches a partition directly.'
        );
        execute format(
            'comment on table %s is %L', part.name,
            'A partition of ' || replace(part.log, 'public.', '') || '; reached through its parent only.'
        );
    end loop;
end
$$;
