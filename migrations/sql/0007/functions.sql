-- New and changed functions, as schema/sql/functions had them at this revision.

-- A value of a row as an event holds it: whole, or its size and digest (P4).
--
-- Values within the limits of schema/limits.py are always whole; rows of an older
-- revision may hold larger ones. Takes and returns the value's JSON text. The digest is
-- the SHA-256 of that text in UTF-8.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_trail;

create or replace function public.event_value(value text)
returns text
language sql
immutable
parallel safe
return case
    when value is null then 'null'
    when octet_length(value) <= 65536 then value
    else json_build_object(
        'omitted_bytes', octet_length(value),
        'sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex')
    )::text
end;

comment on function public.event_value(text) is
'A value as an event holds it: whole, or its size and digest. P4';

-- Why a call comes too often, or null: then it is counted (P3, P5).
--
-- Calls are counted by caller, and on the whole server, in rows of their own: a counter
-- that is updated would be locked until its transaction ends, and whoever kept one open
-- would stop everybody else. What is refused writes nothing, so the table cannot grow
-- faster than the limits say; each count stops at its limit. Calls of transactions that
-- have not committed are seen by their own only. Without a caller it is the client's
-- address, in IPv6 its network; a limit of 0 or null is none.
set local role pandom_definer;

create or replace function public.call_refused(
    kind text, caller text, per_caller integer, span interval,
    per_server integer, server_span interval
)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
    address constant inet := public.client_address();
    key constant text := coalesce(
        call_refused.caller,
        case when family(address) = 6 then text(network(set_masklen(address, 64)))
            else host(address) end,
        'no address'
    );
    moment constant timestamptz := clock_timestamp();
    since constant timestamptz := moment - call_refused.span;
    server_since constant timestamptz := moment - call_refused.server_span;
    caller_full boolean;
    server_full boolean;
begin
    select
        call_refused.per_caller > 0 and (
            select count(*) >= call_refused.per_caller
            from (
                select from public.recent_calls as c
                where c.kind = call_refused.kind and c.caller = key and c.called_at > since
                limit call_refused.per_caller
            ) as counted
        ),
        call_refused.per_server > 0 and (
            select count(*) >= call_refused.per_server
            from (
                select from public.recent_calls as c
                where c.kind = call_refused.kind and c.called_at > server_since
                limit call_refused.per_server
            ) as counted
        )
    into caller_full, server_full;
    if caller_full then
        return format(
            'at most %s in %s from %s', call_refused.per_caller, call_refused.span, key
        );
    end if;
    if server_full then
        return format(
            'at most %s in %s on the whole server',
            call_refused.per_server, call_refused.server_span
        );
    end if;
    if call_refused.per_caller > 0 or call_refused.per_server > 0 then
        insert into public.recent_calls (kind, caller, called_at)
        values (call_refused.kind, key, moment);
    end if;
    return null;
end
$$;

comment on function public.call_refused(text, text, integer, interval, integer, interval) is
'Why a call comes too often, by caller or on the server; null: it is counted. P3 P5';

-- Ends sessions of clients that hold up everybody else (A1).
--
-- A client may switch its role's time limits off. What it cannot: this ends it when a
-- transaction is open for longer than transaction_limit, for then the trail is not
-- sealed and no table can change; and when it holds so many locks that soon nobody could
-- even connect. Only the logins of applications; a dump or a migration takes its time.
-- Returns a line for each. Asks no relation: with the table of locks full, only a session
-- that is there already gets this far (the janitor keeps one).
set local role pandom_definer;

create or replace function public.end_long_transactions()
returns setof text
language plpgsql
security definer
set search_path = ''
as $$
declare
    client record;
    time_limit interval := interval '10 minutes';
begin
    begin
        select s.transaction_limit into strict time_limit from public.account_settings as s;
    exception
        when out_of_memory then null;
    end;
    for client in
        select a.pid, r.login, a.application_name, a.xact_start, l.locks
        from pg_catalog.pg_stat_get_activity(null) as a
        cross join lateral (select pg_catalog.pg_get_userbyid(a.usesysid) as login) as r
        left join (
            select h.pid, count(*) as locks from pg_catalog.pg_lock_status() as h group by h.pid
        ) as l on a.pid = l.pid
        where r.login in ('pandom_app', 'pandom_mailer', 'pandom_service')
            and (l.locks > 2000 or a.xact_start < clock_timestamp() - time_limit)
    loop
        if pg_catalog.pg_terminate_backend(client.pid) then
            return next format(
                'ended server process %s of %s (%s): %s',
                client.pid, client.login, client.application_name,
                case
                    when client.locks > 2000 then format('it held %s locks', client.locks)
                    else format('its transaction was open since %s', client.xact_start)
                end
            );
        end if;
    end loop;
end
$$;

comment on function public.end_long_transactions() is
'Ends sessions of clients with too long a transaction or too many locks. A1';

-- The cost that a bcrypt hash says it has; null for * (P3).
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.hash_cost(hash text)
returns integer
language sql
immutable
parallel safe
return case when hash ~ '^\$2a\$[0-9][0-9]\$' then substr(hash, 5, 2)::integer end;

comment on function public.hash_cost(text) is
'The cost that a bcrypt hash says it has; null for *. P3';

-- Puts the limit of an event's size on a table of the trail, and validates it if it can (P5).
--
-- Rows of an older revision may be larger, and a trail is not edited: then the limit holds
-- for new rows only, until retention has dropped the old ones. Returns whether it holds
-- for all. partition names a table that becomes one; null: the trail's table itself.
set local role pandom_trail;

create or replace function public.limit_details(log text, partition text default null)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    place constant text := coalesce(limit_details.partition, limit_details.log);
    rule constant text := 'ck_' || limit_details.log || '_details';
begin
    if not exists (
        select from pg_catalog.pg_constraint as c
        where c.conrelid = format('public.%I', place)::regclass and c.conname = rule
    ) then
        execute format(
            'alter table public.%I add constraint %I check (jsonb_typeof(details) = ''object'' '
            'and pg_column_size(details) <= 1048576 and octet_length(user_agent) <= 2048) '
            'not valid', place, rule
        );
    end if;
    begin
        execute format('alter table public.%I validate constraint %I', place, rule);
    exception
        when check_violation then return false;
    end;
    return true;
end
$$;

comment on function public.limit_details(text, text) is
'Puts the limit of an event''s size on a table of the trail; whether all rows keep it. P5';

-- Refuses a request of an account function that comes too often (P3).
--
-- kind is registrations, resets or verifications. It looks at who calls, never at whom
-- the request is about, so that its answer says nothing about who exists.
-- Error: configuration_limit_exceeded, which names the limit.
set local role pandom_definer;

create or replace function public.limit_requests(kind text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
    refused text;
begin
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        limit_requests.kind,
        null,
        case limit_requests.kind
            when 'registrations' then rules.registrations_per_address
            when 'resets' then rules.resets_per_address
            when 'verifications' then rules.verifications_per_address
        end,
        rules.request_window,
        case limit_requests.kind
            when 'registrations' then rules.registrations_per_server
            when 'resets' then rules.resets_per_server
            when 'verifications' then rules.verifications_per_server
        end,
        rules.request_window
    );
    if refused is not null then
        raise exception 'too many %: %', limit_requests.kind, refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Try again later. Limits are columns of public.account_settings.';
    end if;
end
$$;

comment on function public.limit_requests(text) is
'Refuses a request that comes too often from an address or on the server. P3';

-- Records that somebody unknown was refused, up to a rate (P3, P5).
--
-- A stranger could fill the trail with refusals. The last one within the limit says that
-- more of the kind from this address are not recorded for a while.
set local role pandom_definer;

create or replace function public.note_refusal(log text, actor uuid, event_type text)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
    details jsonb := '{}';
begin
    select s.* into strict rules from public.account_settings as s;
    if public.call_refused(
        note_refusal.event_type, null, rules.events_per_address, rules.event_window,
        rules.events_per_second, interval '1 second'
    ) is not null
    then
        -- Said once in a window; this kind is counted, too.
        if public.call_refused(
            note_refusal.event_type || ' unrecorded', null, 1, rules.event_window,
            rules.events_per_second, interval '1 second'
        ) is not null
        then
            return;
        end if;
        details := jsonb_build_object('unrecorded', format('more within %s', rules.event_window));
    end if;
    perform public.write_event(
        note_refusal.log, note_refusal.actor, note_refusal.event_type, 'warning', details
    );
end
$$;

comment on function public.note_refusal(text, uuid, text) is
'Records that somebody was refused, up to a rate. P3 P5';

-- Stores a hash of the present cost after a sign-in, while the password is at hand (P3).
--
-- Ends no session: the password stays what it was. One that today's rules would refuse
-- keeps its old hash.
set local role pandom_definer;

create or replace function public.renew_password_hash(
    account public.auth_users, password text, hash_key text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    fresh record;
begin
    if public.hash_cost(public.stored_password_hash(account, renew_password_hash.hash_key))
        = (select s.bcrypt_cost from public.account_settings as s)
    then
        return;
    end if;
    begin
        fresh := public.hash_password(
            renew_password_hash.password, renew_password_hash.hash_key
        );
    exception
        when invalid_parameter_value then return;
    end;
    update public.auth_users as u
    set password_hash = fresh.clear, password_hash_encrypted = fresh.encrypted
    where u.uuid = account.uuid;
end
$$;

comment on function public.renew_password_hash(public.auth_users, text, text) is
'Stores a hash of the present cost after a sign-in. P3';

-- Writes one event for each changed row of the account tables (P4).
--
-- Runs once per statement on its transition tables: for a thousand rows that
-- costs about half of a trigger per row. The difference is spelt out column by
-- column and put together as text, parsed once: a third of building and stripping an
-- object, and a tenth of walking over jsonb_each. Secrets appear as "redacted", never
-- as a value, so that the trail never holds a hash or a token. Tags and metadata of an
-- older revision may be larger than today's limits: their size and digest stand for them,
-- so that no change is lost because its event would be too large. What takes 500 bytes as it
-- is stored is within the limit however well it was compressed, and costs no call.
--
-- Old and new rows meet in a full join. A row whose key was changed stands on one side
-- only and must not be missed; and a full join cannot become a nested loop: the plan that
-- a session made for one row would take the square of the rows of its next big UPDATE.
set local role pandom_trail;

create or replace function public.audit_trigger_function()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    address constant inet := case
        when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
            then current_setting('app.client_ip', true)::inet
    end;
    agent constant text := nullif(left(current_setting('app.user_agent', true), 512), '');
    origin constant jsonb := jsonb_build_object(
        'table', tg_table_name, 'session_user', session_user
    );
    -- The beginning of an UPDATE's details as text, up to the subject.
    opening constant text := left(origin::text, -1) || ', "subject": "';
begin
    if tg_table_schema <> 'public' then
        raise exception 'the audit trigger serves tables of schema public only';
    end if;

    if tg_op = 'TRUNCATE' then
        insert into public.audit_logs
        (user_uuid, event_type, details, ip_address, user_agent, severity)
        values (actor, tg_op, origin, address, agent, 'critical');

    elsif tg_table_name = 'auth_users' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'email', n.email,
                'role', n.role,
                'is_active', n.is_active,
                'is_verified', n.is_verified,
                'is_configured', n.is_configured,
                'profile_uuid', n.profile_uuid
            )
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'auth_users' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.uuid, o.uuid) || '", "changed": {' || concat_ws(',',
                case when o.uuid is distinct from n.uuid
                    then '"uuid":'
                        || json_build_array(o.uuid, n.uuid)::text end,
                case when o.email is distinct from n.email
                    then '"email":'
                        || json_build_array(o.email, n.email)::text end,
                case when o.password_hash is distinct from n.password_hash
                    or o.password_hash_encrypted is distinct from n.password_hash_encrypted
                    then '"password_hash":"redacted"' end,
                case when o.role is distinct from n.role
                    then '"role":'
                        || json_build_array(o.role, n.role)::text end,
                case when o.is_active is distinct from n.is_active
                    then '"is_active":'
                        || json_build_array(o.is_active, n.is_active)::text end,
                case when o.is_verified is distinct from n.is_verified
                    then '"is_verified":'
                        || json_build_array(o.is_verified, n.is_verified)::text end,
                case when o.is_configured is distinct from n.is_configured
                    then '"is_configured":'
                        || json_build_array(o.is_configured, n.is_configured)::text end,
                case when o.verification_token is distinct from n.verification_token
                    then '"verification_token":"redacted"' end,
                case when o.reset_token is distinct from n.reset_token
                    then '"reset_token":"redacted"' end,
                case when o.refresh_token is distinct from n.refresh_token
                    then '"refresh_token":"redacted"' end,
                case when o.last_login_at is distinct from n.last_login_at
                    then '"last_login_at":'
                        || json_build_array(o.last_login_at, n.last_login_at)::text end,
                case when o.profile_uuid is distinct from n.profile_uuid
                    then '"profile_uuid":'
                        || json_build_array(o.profile_uuid, n.profile_uuid)::text end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'auth_users' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'email', o.email, 'role', o.role, 'profile_uuid', o.profile_uuid
            )
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'user_profiles' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.uuid,
            'new', jsonb_build_object(
                'tags', case when pg_column_size(n.tags) <= 500 then to_jsonb(n.tags)
                    else public.event_value(array_to_json(n.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(n.metadata) <= 500 then n.metadata
                    else public.event_value(n.metadata::text)::jsonb end
            )
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'user_profiles' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.uuid, o.uuid) || '", "changed": {' || concat_ws(',',
                case when o.uuid is distinct from n.uuid
                    then '"uuid":'
                        || json_build_array(o.uuid, n.uuid)::text end,
                case when o.tags is distinct from n.tags
                    then '"tags":' || case
                        when greatest(pg_column_size(o.tags), pg_column_size(n.tags)) <= 500
                            then json_build_array(o.tags, n.tags)::text
                        else '[' || public.event_value(array_to_json(o.tags)::text) || ', '
                            || public.event_value(array_to_json(n.tags)::text) || ']'
                    end end,
                case when o.metadata is distinct from n.metadata
                    then '"metadata":' || case
                        when greatest(pg_column_size(o.metadata), pg_column_size(n.metadata)) <= 500
                            then json_build_array(o.metadata, n.metadata)::text
                        else '[' || public.event_value(o.metadata::text) || ', '
                            || public.event_value(n.metadata::text) || ']'
                    end end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'user_profiles' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object(
                'tags', case when pg_column_size(o.tags) <= 500 then to_jsonb(o.tags)
                    else public.event_value(array_to_json(o.tags)::text)::jsonb end,
                'metadata', case when pg_column_size(o.metadata) <= 500 then o.metadata
                    else public.event_value(o.metadata::text)::jsonb end
            )
        ), address, agent
        from old_rows as o;

    elsif tg_table_name = 'sessions' and tg_op = 'INSERT' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', n.user_uuid,
            'new', jsonb_build_object('id', n.id, 'expires_at', n.expires_at)
        ), address, agent
        from new_rows as n;

    elsif tg_table_name = 'sessions' and tg_op = 'UPDATE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, (
            opening || coalesce(n.user_uuid, o.user_uuid) || '", "id": '
            || coalesce(n.id, o.id) || ', "changed": {' || concat_ws(',',
                case when o.id is distinct from n.id
                    then '"id":'
                        || json_build_array(o.id, n.id)::text end,
                case when o.user_uuid is distinct from n.user_uuid
                    then '"user_uuid":'
                        || json_build_array(o.user_uuid, n.user_uuid)::text end,
                case when o.token is distinct from n.token
                    then '"token":"redacted"' end,
                case when o.expires_at is distinct from n.expires_at
                    then '"expires_at":'
                        || json_build_array(o.expires_at, n.expires_at)::text end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.id = o.id;

    elsif tg_table_name = 'sessions' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.user_uuid,
            'old', jsonb_build_object('id', o.id, 'expires_at', o.expires_at)
        ), address, agent
        from old_rows as o;

    else
        raise exception 'the audit trigger does not know table %', tg_table_name;
    end if;
    return null;
end
$$;

comment on function public.audit_trigger_function() is
'Trigger: one event for each changed row, changed columns only, secrets redacted. P4';

-- Opens the transaction's context for the holder of a session token (P2).
--
-- Call it first in every transaction. It sets app.current_user_id and, signed, what
-- current_user_id() checks where contexts are enforced: user, session, backend and
-- transaction timestamp. Returns the user, or null when the token is unknown or
-- expired or its user inactive; that is recorded and sets no context.
set local role pandom_definer;

create or replace function public.begin_context(session_token text)
returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
    opened record;
begin
    select s.user_uuid, s.id::text as session_id, k.secret into opened
    from public.sessions as s
    inner join public.auth_users as u on s.user_uuid = u.uuid
    cross join public.context_key as k
    where s.token = encode(sha256(convert_to(begin_context.session_token, 'UTF8')), 'hex')
        and s.expires_at > current_timestamp
        and u.is_active;
    if not found then
        perform set_config('app.current_user_id', '', true);
        perform set_config('app.context_signature', '', true);
        perform public.note_refusal('security_logs', null, 'context_rejected');
        return null;
    end if;
    perform
        set_config('app.current_user_id', opened.user_uuid::text, true),
        set_config('app.session_id', opened.session_id, true),
        set_config(
            'app.context_signature',
            public.context_signature(opened.secret, opened.user_uuid, opened.session_id),
            true
        );
    return opened.user_uuid;
end
$$;

comment on function public.begin_context(text) is
'Opens the transaction''s context for the holder of a session token, signed. P2';

-- Hands outgoing messages, with their tokens in clear, to the mailer (P3).
--
-- A claimed message is hidden for five minutes; finish_message() removes it. One
-- that the mailer lost on the way appears again. Requests for a reset become messages
-- here: those of nobody's address go, and so does a second one within a minute.
set local role pandom_definer;

create or replace function public.claim_messages(batch_size integer default 100)
returns table (id bigint, kind text, email text, token text, expires_at timestamptz)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    lifetime interval;
begin
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    with asked as (
        select o.id, o.email, o.token
        from public.outbox as o
        where o.kind = 'reset_password' and o.claimed_until is null
        order by o.id
        limit 10 * claim_messages.batch_size
        for update skip locked
    ),

    issued as (
        update public.auth_users as u
        set reset_token = public.token_digest(a.token),
            reset_token_expiry = current_timestamp + lifetime
        from asked as a
        where lower(u.email) = lower(a.email)
            and u.is_active
            and (
                u.reset_token_expiry is null
                or u.reset_token_expiry < current_timestamp + lifetime - interval '1 minute'
            )
        returning a.id, u.email
    ),

    addressed as (
        update public.outbox as o
        set email = i.email
        from issued as i
        where o.id = i.id
    )

    delete from public.outbox as o
    using asked as a
    where o.id = a.id and a.id not in (select i.id from issued as i);
    return query
    update public.outbox as o
    set claimed_until = current_timestamp + interval '5 minutes'
    where
        o.id in (
            select e.id
            from public.outbox as e
            where
                e.expires_at > current_timestamp
                and (e.claimed_until is null or e.claimed_until < current_timestamp)
                and (
                    e.kind <> 'reset_password' or e.claimed_until is not null
                    or exists (
                        select from public.auth_users as u
                        where u.reset_token = public.token_digest(e.token)
                    )
                )
            order by e.id
            limit claim_messages.batch_size
            for update skip locked
        )
    returning o.id, o.kind::text, o.email::text, o.token, o.expires_at;
end
$$;

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer. P3';

-- Sets a new password by a reset token (P3).
--
-- Returns whether the token was good. Ends all sessions of the user, verifies the
-- e-mail (its holder had the token) and forgives failed attempts. Errors: a new password
-- out of bounds; too many calls from this address or on the server.
set local role pandom_definer;

create or replace function public.complete_password_reset(
    token text, new_password text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    account record;
begin
    perform public.limit_requests('verifications');
    select u.uuid, u.email into account
    from public.auth_users as u
    where u.reset_token = public.token_digest(complete_password_reset.token)
        and u.reset_token_expiry > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return false;
    end if;
    perform public.set_password(
        account.uuid, complete_password_reset.new_password, complete_password_reset.hash_key
    );
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.uuid = account.uuid and not u.is_verified;
    delete from public.sign_in_attempts as a
    where a.email_digest = sha256(convert_to(lower(account.email), 'UTF8'));
    perform public.send_message('password_changed', account.email, null, interval '7 days');
    perform public.write_event(
        'security_logs', account.uuid, 'password_reset', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.complete_password_reset(text, text, text) is
'Sets a new password by a reset token; whether the token was good. P3';

-- Whether the current user knows its password; failures count as failed sign-ins (P3).
--
-- A stolen session must not be a way to guess the password without limit. Sets
-- account to the user's row, which stays empty without a context.
set local role pandom_definer;

create or replace function public.confirm_password(
    password text, hash_key text, out account public.auth_users, out confirmed boolean
)
language plpgsql
set search_path = ''
as $$
declare
    digest bytea;
    address constant inet := coalesce(public.client_address(), '0.0.0.0'::inet);
begin
    select u.* into account
    from public.auth_users as u
    where u.uuid = (select public.current_user_id())
    for no key update;
    if not found then
        confirmed := false;
        return;
    end if;
    digest := sha256(convert_to(lower(account.email), 'UTF8'));
    if public.sign_in_locked(digest, address) then
        perform public.note_refusal('audit_logs', account.uuid, 'login_throttled');
        confirmed := false;
        return;
    end if;
    confirmed := public.password_matches(
        account, confirm_password.password, confirm_password.hash_key
    );
    if not confirmed then
        perform public.note_failed_attempt(digest, address);
        perform public.write_event(
            'audit_logs', account.uuid, 'login_failed', 'warning',
            jsonb_build_object('subject', account.uuid, 'reason', 'confirmation')
        );
    end if;
end
$$;

comment on function public.confirm_password(text, text) is
'Whether the current user knows its password; failures count as failed sign-ins. P3';

-- Deletes what has expired: sessions, messages, e-mail changes, old attempts (O3).
--
-- At most batch_size rows of each kind, so that no lock lasts; the janitor repeats
-- until it returns 0. Returns the number of rows deleted.
set local role pandom_definer;

create or replace function public.delete_expired(batch_size integer default 1000)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    batch bigint;
    total bigint := 0;
begin
    delete from public.sessions as s
    where s.id in (
        select e.id
        from public.sessions as e
        where e.expires_at < current_timestamp
        order by e.expires_at
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    if batch > 0 then
        perform public.write_event(
            'audit_logs', null, 'sessions_expired', 'info', jsonb_build_object('rows', batch)
        );
    end if;
    delete from public.outbox as o
    where o.id in (
        select e.id from public.outbox as e where e.expires_at < current_timestamp
        limit batch_size
        for update skip locked
    );
    get diagnostics batch = row_count;
    total := total + batch;
    delete from public.recent_calls as r
    where r.ctid in (
        select e.ctid
        from public.recent_calls as e
        cross join public.account_settings as s
        where e.called_at < clock_timestamp() - case e.kind
            when 'record_event' then s.event_window
            else greatest(s.request_window, s.message_window, s.event_window)
        end
        limit batch_size
    );
    get diagnostics batch = row_count;
    total := total + batch;
    delete from public.email_changes as c where c.expires_at < current_timestamp;
    delete from public.sign_in_attempts as a
    where greatest(a.last_failed_at, a.last_succeeded_at) < current_timestamp - interval '30 days';
    return total;
end
$$;

comment on function public.delete_expired(integer) is
'Deletes expired sessions and messages in batches; for the janitor. O3';

-- Moves what the default partition caught into partitions of its months (T3).
--
-- Locks the default partition against writers while it moves; writers of months that
-- have a partition go on. Returns how many rows it moved.
set local role pandom_trail;

create or replace function public.drain_default(log text)
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    default_name constant text := drain_default.log || '_default';
    month timestamptz;
    name text;
    upper_bound timestamptz;
    moved bigint;
    total bigint := 0;
begin
    if drain_default.log not in ('audit_logs', 'security_logs') then
        raise exception 'the trail has no table %', drain_default.log
            using errcode = 'invalid_parameter_value';
    end if;
    execute format('lock table public.%I in share row exclusive mode', default_name);
    for month in execute format(
        'select distinct date_trunc(''month'', timestamp, ''UTC'') from public.%I order by 1',
        default_name
    )
    loop
        name := drain_default.log || to_char(month at time zone 'UTC', '"_y"YYYY"m"MM');
        upper_bound := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
        execute format(
            'create table public.%I (like public.%I including defaults including constraints)',
            name, drain_default.log
        );
        -- Rows of an older revision may be larger than today's limit.
        execute format(
            'alter table public.%I drop constraint %I', name,
            'ck_' || drain_default.log || '_details'
        );
        execute format(
            'with moved as (delete from public.%I where timestamp >= $1 and timestamp < $2 '
            'returning *) insert into public.%I select * from moved', default_name, name
        ) using month, upper_bound;
        get diagnostics moved = row_count;
        total := total + moved;
        perform public.limit_details(drain_default.log, name);
        perform public.protect_partition(drain_default.log, name);
        execute format(
            'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
            drain_default.log, name, month, upper_bound
        );
    end loop;
    if total > 0 then
        -- The event must find its month, or it would be the next row in a default partition.
        perform public.create_partition(
            'security_logs',
            date_trunc('month', current_timestamp at time zone 'UTC') at time zone 'UTC'
        );
        perform public.write_event(
            'security_logs', null, 'partition_drained', 'warning',
            jsonb_build_object('partition', default_name, 'rows', total)
        );
    end if;
    return total;
end
$$;

comment on function public.drain_default(text) is
'Moves what the default partition caught into partitions of its months. T3';

-- The event types that only the database writes (P5).
--
-- The list is schema.access.EVENT_TYPES; a test compares the two. An application
-- that could record one of these would forge evidence.
set local role pandom_trail;

create or replace function public.is_reserved_event_type(event_type text)
returns boolean
language sql
immutable
strict
parallel safe
set search_path = ''
return lower(event_type) in (
    'insert', 'update', 'delete', 'truncate',
    'user_registered', 'registration_repeated',
    'user_verified', 'user_deactivated', 'user_reactivated', 'user_deleted',
    'login_succeeded', 'login_failed', 'login_throttled',
    'session_refreshed', 'session_ended', 'sessions_expired',
    'password_changed', 'password_reset_requested', 'password_reset',
    'email_change_requested', 'email_changed', 'role_changed',
    'context_rejected', 'context_key_rotated',
    'partition_created', 'partition_drained', 'partition_exported', 'partition_dropped',
    'retention_changed', 'trail_restored'
);

comment on function public.is_reserved_event_type(text) is
'Whether only the database may write this event type. P5';

-- Whether a password belongs to an account; every answer costs the same (P3).
--
-- The work is always that of the most expensive hash there is, or of the present cost
-- where that is more: bcrypt of cost n is half of n + 1, so after one of cost c those of
-- c, c + 1, … up to the limit add to it exactly. Without that, an account whose hash is
-- older than the setting would be told from an address that nobody has. What encryption
-- adds is done for both, too. A cost beyond 16 is nobody's setting, and not made up for.
set local role pandom_definer;

create or replace function public.password_matches(
    account public.auth_users, password text, hash_key text
)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    rules record;
    stored text;
    answer boolean := false;
    given constant text := coalesce(password_matches.password, '');
    cost integer;
    dearest integer;
begin
    select s.bcrypt_cost, s.encrypt_password_hash into strict rules
    from public.account_settings as s;
    dearest := least(16, greatest(rules.bcrypt_cost, (
        select max(substr(u.password_hash, 5, 2))
        from public.auth_users as u
        where u.password_hash <> '*'
    )::integer));
    if account.uuid is not null then
        stored := public.stored_password_hash(account, password_matches.hash_key);
        answer := coalesce(public.crypt(password_matches.password, stored) = stored, false);
        -- crypt() of a null is none.
        cost := case when password_matches.password is not null
            then public.hash_cost(stored) end;
    elsif rules.encrypt_password_hash and coalesce(password_matches.hash_key, '') <> '' then
        perform public.pgp_sym_encrypt(
            repeat('*', 60), password_matches.hash_key, 'cipher-algo=aes256, compress-algo=0'
        );
    end if;
    if cost is null then
        perform public.crypt(given, public.gen_salt('bf', dearest));
    else
        for n in cost..dearest - 1 loop
            perform public.crypt(given, public.gen_salt('bf', n));
        end loop;
    end if;
    return answer;
end
$$;

comment on function public.password_matches(public.auth_users, text, text) is
'Whether a password belongs to an account; every answer costs the same. P3';

-- How an application records an event of its own (P5).
--
-- User, time and address are the database's, not the caller's; the database's own
-- event types are refused. Errors: a reserved or malformed event type, details
-- that are no object or exceed 8 KiB, too many events of this user, of this address
-- without a user, or on the whole server.
set local role pandom_trail;

create or replace function public.record_event(event_type text, details jsonb default '{}')
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    rules public.account_settings;
    refused text;
begin
    if record_event.event_type is null
        or record_event.event_type !~ '^[a-z][a-z0-9_]{2,99}$'
    then
        raise exception 'event type must be 3 to 100 of a-z, 0-9 and _, starting with a letter'
            using errcode = 'invalid_parameter_value';
    end if;
    if public.is_reserved_event_type(record_event.event_type) then
        raise exception 'event type % is written by the database only', record_event.event_type
            using errcode = 'insufficient_privilege';
    end if;
    if record_event.details is null or jsonb_typeof(record_event.details) <> 'object' then
        raise exception 'details of an event must be a JSON object'
            using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(record_event.details::text) > 8192 then
        raise exception 'details of an event must not exceed 8192 bytes'
            using errcode = 'program_limit_exceeded';
    end if;
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        'record_event', actor::text,
        case when actor is null then rules.events_per_address else rules.events_per_user end,
        rules.event_window, rules.events_per_second, interval '1 second'
    );
    if refused is not null then
        raise exception 'too many events: %', refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Try again later. Limits are columns of public.account_settings.';
    end if;
    insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
    values (
        actor, record_event.event_type, record_event.details,
        public.client_address(), public.client_agent()
    );
end
$$;

comment on function public.record_event(text, jsonb) is
'Records an event of the application; sets user, time and address itself. P5';

-- Exchanges a refresh token for a new session and a new refresh token (P3).
--
-- Returns one row, or none when the token is unknown, used, expired, or its user
-- inactive. A refresh token works once. Error: too many refreshes of this user.
set local role pandom_definer;

create or replace function public.refresh_session(refresh_token text)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    new_refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    owner uuid;
    rules public.account_settings;
    refused text;
begin
    select u.uuid into owner
    from public.auth_users as u
    where u.refresh_token = public.token_digest(refresh_session.refresh_token)
        and u.refresh_token_expires > current_timestamp
        and u.is_active
    for no key update;
    if not found then
        return;
    end if;
    select s.* into strict rules from public.account_settings as s;
    refused := public.call_refused(
        'refreshes', owner::text, rules.refreshes_per_user, rules.request_window, null, null
    );
    if refused is not null then
        raise exception 'too many refreshes: %', refused
            using errcode = 'configuration_limit_exceeded',
            hint = 'Use the session until it expires. Limits are columns of '
            'public.account_settings.';
    end if;
    perform public.write_event('audit_logs', owner, 'session_refreshed', 'info', '{}');
    return query
    select owner, o.* from public.open_session(owner) as o;
end
$$;

comment on function public.refresh_session(text) is
'Exchanges a refresh token, once, for a new session and refresh token. P3';

-- Registers a user and sends a verification token (P3).
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
'Registers a user and sends a verification token; says nothing about who exists. P3';

-- Asks for a reset token to be sent to the holder of an e-mail (P3).
--
-- Returns nothing, whether or not the e-mail exists, and does the same for both: it puts a
-- message aside, and whether somebody has that address is looked up when the mailer claims
-- it (claim_messages). Nobody who waits for the answer can tell. Error: too many
-- requests from this address or on the server.
set local role pandom_definer;

create or replace function public.request_password_reset(email text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    lifetime interval;
begin
    perform public.limit_requests('resets');
    if request_password_reset.email is null or length(request_password_reset.email) > 255 then
        return;
    end if;
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    perform public.send_message(
        'reset_password', lower(request_password_reset.email), public.new_token(), lifetime
    );
    perform public.write_event(
        'security_logs',
        (
            select u.uuid from public.auth_users as u
            where lower(u.email) = lower(request_password_reset.email)
        ),
        'password_reset_requested', 'info', '{}'
    );
end
$$;

comment on function public.request_password_reset(text) is
'Sends a reset token to the holder of an e-mail; says nothing about who exists. P3';

-- Seals what has committed since the last call into blocks of the hash chain (P5).
--
-- Writers never wait: they append, and this comes after them. A row is taken when its
-- transaction is older than every one that still runs, so that nothing can appear
-- later among what is sealed; rows of earlier epochs are always old enough. Rows are
-- ordered by (epoch, tx, id) and split by month, and a chain has one writer at a time.
-- One call takes at most block_rows rows of each table, and stops after 64 MB of them as
-- they are stored; returns how many it sealed.
-- A row is taken in its binary form, which has lengths and no settings in it but the
-- encoding; from 1 KiB on the SHA-256 of that form stands for it. So a block is made of at
-- most 10 MB, whatever the rows hold, and only one of them at a time is in memory. The
-- same is in pandom/database/catalog/trail_rows.sql.
-- The chain's one writer is who holds the rows of trail_retention: a lock that no login of
-- an application can take. Error: lock_not_available, which names the holder.
-- The two planner settings
-- make it read the index in its order: the statistics of a young partition would make
-- it sort the whole month for each batch. What they make look dear would be compiled,
-- two seconds each time, so jit is off.
set local role pandom_trail;

create or replace function public.seal_trail(block_rows integer default 10000)
returns bigint
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
set client_encoding = 'UTF8'
set work_mem = '64MB'
set enable_seqscan = off
set enable_sort = off
set jit = off
as $$
declare
    chain text;
    present integer;
    head public.trail_blocks;
    fresh public.trail_blocks;
    sealed bigint := 0;
begin
    begin
        perform from public.trail_retention as r for no key update nowait;
    exception
        when lock_not_available then
            raise exception 'the trail is being sealed already, by %', coalesce((
                select string_agg(
                    format('server process %s (%s)', l.pid, a.usename), ', ' order by l.pid
                )
                from pg_catalog.pg_locks as l
                inner join pg_catalog.pg_stat_activity as a on l.pid = a.pid
                where l.relation = 'public.trail_retention'::regclass
                    and l.mode in ('RowShareLock', 'RowExclusiveLock')
                    and l.pid <> pg_backend_pid()
            ), 'a session that has just ended')
                using errcode = 'lock_not_available',
                hint = 'Wait for it, or end it: pg_terminate_backend(PID) as the superuser.';
    end;
    foreach chain in array array['audit_logs', 'security_logs'] loop
        select b.* into head
        from public.trail_blocks as b
        where b.log = chain
        order by b.number desc
        limit 1;
        select pg_get_expr(d.adbin, d.adrelid)::integer into strict present
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a
            on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = format('public.%I', chain)::regclass and a.attname = 'epoch';
        for fresh in execute format(
            $query$
            with chosen as (
                select
                    t.*,
                    sum(pg_column_size(t.details)) over (
                        order by t.epoch, t.tx, t.id rows unbounded preceding
                    ) - pg_column_size(t.details) as bytes_before
                from public.%I as t
                where (t.epoch, t.tx, t.id) > ($1, $2, $3)
                    and (t.epoch < $4 or t.tx < pg_snapshot_xmin(pg_current_snapshot()))
                order by t.epoch, t.tx, t.id
                limit least($5, 10000)
            ),

            taken as (
                select
                    date_trunc('month', c.timestamp)::date as month, c.epoch, c.tx, c.id,
                    record_send(row(
                        c.id, c.user_uuid, c.event_type, c.timestamp, c.details,
                        c.ip_address, c.user_agent, c.severity, c.epoch, c.tx
                    )) as form
                from chosen as c
                where c.bytes_before <= 67108864
                offset 0
            )

            select
                null, null, month,
                (array_agg(epoch order by epoch, tx, id))[1],
                (array_agg(tx order by epoch, tx, id))[1],
                (array_agg(id order by epoch, tx, id))[1],
                (array_agg(epoch order by epoch, tx, id))[count(*)],
                (array_agg(tx order by epoch, tx, id))[count(*)],
                (array_agg(id order by epoch, tx, id))[count(*)],
                count(*),
                sha256(string_agg(
                    case when octet_length(form) < 1024 then form else sha256(form) end,
                    ''::bytea
                    order by epoch, tx, id
                )),
                string_agg(
                    int8send(id) || substr(sha256(form), 1, 8), ''::bytea
                    order by epoch, tx, id
                ),
                null, null, null
            from taken
            group by month
            order by 7, 8, 9
            $query$, chain
        ) using
            coalesce(head.last_epoch, 0), coalesce(head.last_tx, '0'::xid8),
            coalesce(head.last_id, 0), present, block_rows
        loop
            fresh.log := chain;
            fresh.number := coalesce(head.number, 0) + 1;
            fresh.previous_hash := coalesce(head.hash, decode(repeat('00', 32), 'hex'));
            fresh.sealed_at := clock_timestamp();
            fresh.hash := public.trail_block_hash(fresh);
            insert into public.trail_blocks select fresh.*;
            sealed := sealed + fresh.row_count;
            head := fresh;
        end loop;
    end loop;
    return sealed;
end
$$;

comment on function public.seal_trail(integer) is
'Seals what has committed into blocks of the hash chain; returns the number of rows. P5';

-- Puts a message into the outbox, in place of an older one of its kind (P3).
--
-- A mailbox gets only so many of a kind within message_window, whoever asks for them; the
-- token of the last one that was sent stays good.
set local role pandom_definer;

create or replace function public.send_message(
    kind text, email text, token text, lifetime interval
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    rules public.account_settings;
begin
    select s.* into strict rules from public.account_settings as s;
    if public.call_refused(
        'message ' || send_message.kind, lower(send_message.email),
        rules.messages_per_mailbox, rules.message_window, null, null
    ) is not null
    then
        return;
    end if;
    delete from public.outbox as o
    where lower(o.email) = lower(send_message.email) and o.kind = send_message.kind;
    insert into public.outbox (kind, email, token, expires_at)
    values (
        send_message.kind, send_message.email, send_message.token,
        current_timestamp + send_message.lifetime
    );
end
$$;

comment on function public.send_message(text, text, text, interval) is
'Puts a message into the outbox, in place of an older one of its kind. P3';

-- Signs a user in by e-mail and password (P3).
--
-- Returns one row, or none: for an unknown e-mail, a wrong password, an inactive or
-- unverified account and a throttled attempt alike. hash_key is needed where hashes
-- are encrypted (P1). Writes login_succeeded, login_failed or login_throttled.
set local role pandom_definer;

create or replace function public.sign_in(email text, password text, hash_key text default null)
returns table (
    user_uuid uuid,
    session_token text,
    session_expires_at timestamptz,
    refresh_token text,
    refresh_expires_at timestamptz
)
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    account public.auth_users;
    digest constant bytea := sha256(convert_to(lower(sign_in.email), 'UTF8'));
    address constant inet := coalesce(public.client_address(), '0.0.0.0'::inet);
    refusal text;
begin
    -- No account has an address that long.
    if digest is null or length(sign_in.email) > 255 then
        return;
    end if;
    if public.sign_in_locked(digest, address) then
        perform public.note_refusal('audit_logs', null, 'login_throttled');
        return;
    end if;
    select u.* into account
    from public.auth_users as u
    where lower(u.email) = lower(sign_in.email);
    refusal := case
        when not public.password_matches(account, sign_in.password, sign_in.hash_key)
            then 'credentials'
        when not account.is_active then 'inactive'
        when not account.is_verified then 'unverified'
    end;
    if refusal is not null then
        perform public.note_failed_attempt(digest, address);
        perform public.write_event(
            'audit_logs', null, 'login_failed', 'warning',
            jsonb_build_object('subject', account.uuid, 'reason', refusal)
        );
        return;
    end if;
    perform public.renew_password_hash(account, sign_in.password, sign_in.hash_key);
    insert into public.sign_in_attempts as a (email_digest, address, last_succeeded_at)
    values (digest, address, clock_timestamp())
    on conflict on constraint pk_sign_in_attempts do update
        set failures = 0, last_succeeded_at = excluded.last_succeeded_at;
    perform public.write_event('audit_logs', account.uuid, 'login_succeeded', 'info', '{}');
    return query
    select account.uuid, o.* from public.open_session(account.uuid) as o;
end
$$;

comment on function public.sign_in(text, text, text) is
'Signs a user in by e-mail and password; one row, or none whatever the reason. P3';

-- Ends every session of the current user, and its refresh token (P3).
--
-- Returns how many sessions there were.
set local role pandom_definer;

create or replace function public.sign_out_everywhere()
returns bigint
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
    ended bigint;
begin
    if actor is null then
        return 0;
    end if;
    delete from public.sessions as s where s.user_uuid = actor;
    get diagnostics ended = row_count;
    update public.auth_users as u
    set refresh_token = null, refresh_token_expires = null
    where u.uuid = actor and u.refresh_token is not null;
    if ended > 0 or found then
        perform public.write_event(
            'audit_logs', actor, 'session_ended', 'info', jsonb_build_object('sessions', ended)
        );
    end if;
    return ended;
end
$$;

comment on function public.sign_out_everywhere() is
'Ends every session of the current user; how many there were. P3';

-- Verifies an account, or a new e-mail of one, by the token sent there (P3).
--
-- Returns whether the token was good. A token works once and expires. Error: too many
-- calls from this address or on the server.
set local role pandom_definer;

create or replace function public.verify_email(token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    digest constant text := public.token_digest(verify_email.token);
    account uuid;
    change public.email_changes;
    former text;
begin
    perform public.limit_requests('verifications');
    update public.auth_users as u
    set is_verified = true, verification_token = null, verification_expires = null
    where u.verification_token = digest
        and u.verification_expires > current_timestamp
        and u.is_active
    returning u.uuid into account;
    if found then
        perform public.write_event('audit_logs', account, 'user_verified', 'info', '{}');
        return true;
    end if;
    delete from public.email_changes as c
    where c.token = digest and c.expires_at > current_timestamp
    returning c.* into change;
    if not found then
        return false;
    end if;
    select u.email into former from public.auth_users as u where u.uuid = change.user_uuid;
    begin
        update public.auth_users as u
        set email = change.new_email, is_verified = true
        where u.uuid = change.user_uuid and u.is_active;
        if not found then
            return false;
        end if;
    exception
        when unique_violation then
            return false;
    end;
    perform public.send_message('email_changed', former, null, interval '7 days');
    perform public.write_event(
        'security_logs', change.user_uuid, 'email_changed', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.verify_email(text) is
'Verifies an account, or its new e-mail, by the token sent there. P3';
