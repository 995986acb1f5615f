-- Registers a user and sends a verification token.
--
-- Returns nothing, and does the same work, whether or not the e-mail is taken: the
-- holder of a taken one gets a message that says so. Errors: a malformed e-mail, a
-- password out of bounds, metadata that is no object, tags or metadata that are too
-- large, too many registrations from this address or on the server.
set local role pandom_definer;

create or replace function public.register(
    email text,
    password text,
    tags text[] default '{}',
    metadata jsonb default '{}',
    hash_key text default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    fresh record;
    token constant text := public.new_token();
    lifetime interval;
    profile uuid;
    account uuid;
    broken text;
begin
    perform public.limit_requests('registrations');
    select s.verification_lifetime into strict lifetime from public.account_settings as s;
    if register.email is null or length(register.email) > 255
        or register.email !~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'
    then
        raise exception 'this is not an e-mail address'
            using errcode = 'invalid_parameter_value';
    end if;
    if register.metadata is null or jsonb_typeof(register.metadata) <> 'object' then
        raise exception 'metadata must be a JSON object'
            using errcode = 'invalid_parameter_value';
    end if;
    fresh := public.hash_password(register.password, register.hash_key);
    begin
        insert into public.user_profiles as p (tags, metadata)
        values (coalesce(register.tags, '{}'), register.metadata)
        returning p.uuid into profile;
        insert into public.auth_users as u (
            email, password_hash, password_hash_encrypted, profile_uuid,
            verification_token, verification_expires
        )
        values (
            register.email, fresh.clear, fresh.encrypted, profile,
            public.token_digest(token), current_timestamp + lifetime
        )
        returning u.uuid into account;
    exception
        when unique_violation then
            perform public.send_message('already_registered', u.email, null, lifetime)
            from public.auth_users as u
            where lower(u.email) = lower(register.email);
            perform public.write_event(
                'audit_logs', null, 'registration_repeated', 'info', '{}'
            );
            return;
        when check_violation then
            get stacked diagnostics broken = constraint_name;
            raise exception 'tags or metadata are out of bounds: %', coalesce((
                select regexp_replace(
                    obj_description(c.oid, 'pg_constraint'), '( [A-Z][0-9]+)+$', ''
                )
                from pg_catalog.pg_constraint as c
                where c.conname = broken and c.conrelid = 'public.user_profiles'::regclass
            ), broken)
                using errcode = 'program_limit_exceeded';
    end;
    perform public.send_message('verify_email', register.email, token, lifetime);
    perform public.write_event('audit_logs', account, 'user_registered', 'info', '{}');
end
$$;

comment on function public.register(text, text, text[], jsonb, text) is
'Registers a user and sends a verification token; says nothing about who exists.';
