-- Takes rows back that a downgrade left in schema trail_archive (M3).
set local role pandom_trail;

do $$
declare
    log text;
begin
    foreach log in array array['audit_logs', 'security_logs'] loop
        if to_regclass(format('trail_archive.%I', log)) is null then
            continue;
        end if;
        execute format(
            'insert into public.%1$I overriding system value select * from trail_archive.%1$I',
            log
        );
        execute format(
            'select setval(pg_get_serial_sequence(%L, %L), max(id)) from public.%I having max(id) > 0',
            'public.' || log, 'id', log
        );
        execute format('drop table trail_archive.%I', log);
    end loop;
end
$$;
