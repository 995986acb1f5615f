-- The functions as they were, in the order in which they were changed.

-- Writes one event for each changed row of the account tables (P4).
--
-- Runs once per statement on its transition tables: for a thousand rows that
-- costs about half of a trigger per row. The difference is spelt out column by
-- column and put together as text, parsed once: a third of building and stripping an
-- object, and a tenth of walking over jsonb_each. Secrets appear as "redacted", never
-- as a value, so that the trail never holds a hash or a token.
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
            'new', jsonb_build_object('tags', n.tags, 'metadata', n.metadata)
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
                    then '"tags":'
                        || json_build_array(o.tags, n.tags)::text end,
                case when o.metadata is distinct from n.metadata
                    then '"metadata":'
                        || json_build_array(o.metadata, n.metadata)::text end
            ) || '}}'
        )::jsonb, address, agent
        from new_rows as n
        full outer join old_rows as o on n.uuid = o.uuid;

    elsif tg_table_name = 'user_profiles' and tg_op = 'DELETE' then
        insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
        select actor, tg_op, origin || jsonb_build_object(
            'subject', o.uuid,
            'old', jsonb_build_object('tags', o.tags, 'metadata', o.metadata)
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
        perform public.write_event(
            'security_logs', null, 'context_rejected', 'warning', '{}'
        );
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
-- that the mailer lost on the way appears again.
set local role pandom_definer;

create or replace function public.claim_messages(batch_size integer default 100)
returns table (id bigint, kind text, email text, token text, expires_at timestamptz)
language sql
security definer
set search_path = ''
begin atomic
    update public.outbox as o
    set claimed_until = current_timestamp + interval '5 minutes'
    where
        o.id in (
            select e.id
            from public.outbox as e
            where
                e.expires_at > current_timestamp
                and (e.claimed_until is null or e.claimed_until < current_timestamp)
            order by e.id
            limit claim_messages.batch_size
            for update skip locked
        )
    returning o.id, o.kind::text, o.email::text, o.token, o.expires_at;
end;

comment on function public.claim_messages(integer) is
'Hands outgoing messages with their tokens to the mailer. P3';

-- Sets a new password by a reset token (P3).
--
-- Returns whether the token was good. Ends all sessions of the user, verifies the
-- e-mail (its holder had the token) and forgives failed attempts.
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
        perform public.write_event('audit_logs', account.uuid, 'login_throttled', 'warning', '{}');
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
        execute format(
            'with moved as (delete from public.%I where timestamp >= $1 and timestamp < $2 '
            'returning *) insert into public.%I select * from moved', default_name, name
        ) using month, upper_bound;
        get diagnostics moved = row_count;
        total := total + moved;
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
    'user_registered', 'user_verified', 'user_deactivated', 'user_reactivated', 'user_deleted',
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

-- Whether a password belongs to an account; an absent account costs the same (P3).
--
-- The work for an unknown e-mail is done on a dummy hash of the configured cost, so
-- that the time says nothing about who exists.
set local role pandom_definer;

create or replace function public.password_matches(
    account public.auth_users, password text, hash_key text
)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    stored text;
begin
    if account.uuid is null then
        perform public.crypt(
            coalesce(password_matches.password, ''),
            (
                select public.gen_salt('bf', s.bcrypt_cost)
                from public.account_settings as s
            )
        );
        return false;
    end if;
    stored := public.stored_password_hash(account, password_matches.hash_key);
    return coalesce(public.crypt(password_matches.password, stored) = stored, false);
end
$$;

comment on function public.password_matches(public.auth_users, text, text) is
'Whether a password belongs to an account; an absent account costs the same. P3';

-- How an application records an event of its own (P5).
--
-- User, time and address are the database's, not the caller's; the database's own
-- event types are refused. Errors: a reserved or malformed event type, details
-- that are no object or exceed 8 KiB.
set local role pandom_trail;

create or replace function public.record_event(event_type text, details jsonb default '{}')
returns void
language plpgsql
security definer
set search_path = ''
as $$
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
    insert into public.audit_logs (user_uuid, event_type, details, ip_address, user_agent)
    values (
        public.current_user_id(), record_event.event_type, record_event.details,
        public.client_address(), public.client_agent()
    );
end
$$;

comment on function public.record_event(text, jsonb) is
'Records an event of the application; sets user, time and address itself. P5';

-- Exchanges a refresh token for a new session and a new refresh token (P3).
--
-- Returns one row, or none when the token is unknown, used, expired, or its user
-- inactive. A refresh token works once.
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
-- password out of bounds, metadata that is no object.
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
    fresh constant record := public.hash_password(register.password, register.hash_key);
    token constant text := public.new_token();
    lifetime interval;
    profile uuid;
    account uuid;
begin
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
            return;
    end;
    perform public.send_message('verify_email', register.email, token, lifetime);
    perform public.write_event('audit_logs', account, 'user_registered', 'info', '{}');
end
$$;

comment on function public.register(text, text, text[], jsonb, text) is
'Registers a user and sends a verification token; says nothing about who exists. P3';

-- Sends a reset token to the holder of an e-mail (P3).
--
-- Returns nothing, whether or not the e-mail exists. A second request within a
-- minute sends nothing new, so that nobody can flood a mailbox.
set local role pandom_definer;

create or replace function public.request_password_reset(email text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
    token constant text := public.new_token();
    lifetime interval;
    account record;
begin
    select s.reset_lifetime into strict lifetime from public.account_settings as s;
    update public.auth_users as u
    set reset_token = public.token_digest(token),
        reset_token_expiry = current_timestamp + lifetime
    where lower(u.email) = lower(request_password_reset.email)
        and u.is_active
        and (
            u.reset_token_expiry is null
            or u.reset_token_expiry < current_timestamp + lifetime - interval '1 minute'
        )
    returning u.uuid, u.email into account;
    if found then
        perform public.send_message('reset_password', account.email, token, lifetime);
        perform public.write_event(
            'security_logs', account.uuid, 'password_reset_requested', 'info', '{}'
        );
    end if;
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
-- One call takes at most block_rows rows of each table; returns how many it sealed.
-- A row is taken in its binary form, which has lengths and no settings in it but the
-- encoding; the same as in pandom/database/catalog/trail_rows.sql. The two planner settings
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
    if not pg_try_advisory_xact_lock(hashtextextended('public.seal_trail', 0)) then
        return 0;
    end if;
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
            with taken as (
                select
                    date_trunc('month', t.timestamp)::date as month, t.epoch, t.tx, t.id,
                    record_send(row(
                        t.id, t.user_uuid, t.event_type, t.timestamp, t.details,
                        t.ip_address, t.user_agent, t.severity, t.epoch, t.tx
                    )) as line
                from public.%I as t
                where (t.epoch, t.tx, t.id) > ($1, $2, $3)
                    and (t.epoch < $4 or t.tx < pg_snapshot_xmin(pg_current_snapshot()))
                order by t.epoch, t.tx, t.id
                limit $5
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
                sha256(string_agg(line, ''::bytea order by epoch, tx, id)),
                string_agg(
                    int8send(id) || substr(sha256(line), 1, 8), ''::bytea
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
set local role pandom_definer;

create or replace function public.send_message(
    kind text, email text, token text, lifetime interval
)
returns void
language plpgsql
set search_path = ''
as $$
begin
    delete from public.outbox as o
    where o.kind = send_message.kind and o.email = send_message.email;
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
    if digest is null then
        return;
    end if;
    if public.sign_in_locked(digest, address) then
        perform public.write_event('audit_logs', null, 'login_throttled', 'warning', '{}');
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
    perform public.write_event(
        'audit_logs', actor, 'session_ended', 'info', jsonb_build_object('sessions', ended)
    );
    return ended;
end
$$;

comment on function public.sign_out_everywhere() is
'Ends every session of the current user; how many there were. P3';

-- Verifies an account, or a new e-mail of one, by the token sent there (P3).
--
-- Returns whether the token was good. A token works once and expires.
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
