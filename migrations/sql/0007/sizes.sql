-- The limit of an event's size, and who keeps it already: larger rows of before stay.
set local role pandom_trail;

-- Put back, with a limit, in the same transaction.
-- squawk-ignore ban-drop-constraint
alter table public.audit_logs drop constraint ck_audit_logs_details;
-- squawk-ignore ban-drop-constraint
alter table public.security_logs drop constraint ck_security_logs_details;

do $$
begin
    perform public.limit_details('audit_logs');
    perform public.limit_details('security_logs');
end
$$;

comment on constraint ck_audit_logs_details on public.audit_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes. T3 P5';
comment on constraint ck_security_logs_details on public.security_logs is
'Details are a JSON object of at most 1 MiB, the user agent has at most 2048 bytes. T5 P5';

set local role pandom_owner;

do $$
declare
    rule record;
begin
    for rule in
        select c.conname, c.conrelid::regclass as place
        from pg_catalog.pg_constraint as c
        where not c.convalidated and c.contype = 'c'
            and c.conrelid in (
                'public.account_settings'::regclass, 'public.user_profiles'::regclass,
                'public.auth_users'::regclass, 'public.sessions'::regclass
            )
    loop
        begin
            execute format('alter table %s validate constraint %I', rule.place, rule.conname);
        exception
            when check_violation then null;
        end;
    end loop;
end
$$;
