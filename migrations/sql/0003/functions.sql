-- Every function, as schema/sql/functions had it at this revision.

-- What begin_context() signs: user, session, backend and transaction (P2).
--
-- The transaction's timestamp makes a replay in a later transaction worthless,
-- the backend's number one on another connection. Only the definer, who alone
-- reads the key, may call it.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.context_signature(
    secret bytea, user_uuid uuid, session_id text
)
returns text
language sql
stable
parallel safe
return encode(
    public.hmac(
        uuid_send(user_uuid)
        || int4send(pg_backend_pid())
        || timestamptz_send(transaction_timestamp())
        || convert_to(session_id, 'UTF8'),
        secret,
        'sha256'
    ),
    'hex'
);

comment on function public.context_signature(bytea, uuid, text) is
'HMAC over user, backend, transaction timestamp and session; the key is the caller''s. P2';

-- How a token is stored: its SHA-256 in hexadecimal (T4, P3).
--
-- Tokens are 256 random bits, so a plain digest cannot be searched backwards.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.token_digest(token text)
returns text
language sql
immutable
strict
parallel safe
return encode(sha256(convert_to(token, 'UTF8')), 'hex');

comment on function public.token_digest(text) is
'SHA-256 of a token in hexadecimal; the only form in which a token is stored. T4';

-- A fresh token: 256 random bits in base64url (P3).
--
-- Not hexadecimal, so that the checks on stored digests refuse a token in clear.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.new_token()
returns text
language sql
volatile
return translate(encode(public.gen_random_bytes(32), 'base64'), '+/=', '-_');

comment on function public.new_token() is
'256 random bits in base64url, handed out once and stored as a digest. P3';

-- The client's address as the application stated it, or null (T3, T4).
--
-- A malformed value becomes null: a proxy's odd header must not stop a sign-in.
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.client_address()
returns inet
language sql
stable
parallel safe
return case
    when pg_input_is_valid(current_setting('app.client_ip', true), 'inet')
        then nullif(current_setting('app.client_ip', true), '')::inet
end;

comment on function public.client_address() is
'The client''s address from app.client_ip; null when unset or malformed. T3';

-- The client's user agent as the application stated it, cut to 512 characters (T3, T4).
-- No search_path is pinned: names in a body of this form were resolved when it was made,
-- and without the setting the planner inlines the call.
set local role pandom_definer;

create or replace function public.client_agent()
returns text
language sql
stable
parallel safe
return nullif(left(current_setting('app.user_agent', true), 512), '');

comment on function public.client_agent() is
'The client''s user agent from app.user_agent, cut to 512 characters. T3';

-- A user's bcrypt hash, decrypted where it is stored encrypted (P1).
--
-- Error: a hash that is encrypted and no key, or the wrong one.
set local role pandom_definer;

create or replace function public.stored_password_hash(account public.auth_users, hash_key text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
    if account.password_hash_encrypted is null then
        return account.password_hash;
    end if;
    if coalesce(hash_key, '') = '' then
        raise exception 'password hashes are encrypted: pass hash_key'
            using errcode = 'invalid_parameter_value';
    end if;
    return public.pgp_sym_decrypt(account.password_hash_encrypted, hash_key);
exception
    when external_routine_invocation_exception then
        raise exception 'password hashes are encrypted with another hash_key'
            using errcode = 'invalid_parameter_value';
end
$$;

comment on function public.stored_password_hash(public.auth_users, text) is
'A user''s bcrypt hash, decrypted where it is stored encrypted. P1';

-- Deletes a user on behalf of an administrator (P3); the trail keeps its name.
--
-- Returns whether there was such a user. Errors: the caller is no administrator, or
-- would delete itself.
set local role pandom_definer;

create or replace function public.admin_delete_user(user_uuid uuid)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.require_admin();
begin
    if actor = admin_delete_user.user_uuid then
        raise exception 'an administrator cannot delete itself here; use delete_account()'
            using errcode = 'invalid_parameter_value';
    end if;
    delete from public.auth_users as u where u.uuid = admin_delete_user.user_uuid;
    if not found then
        return false;
    end if;
    perform public.write_event(
        'security_logs', actor, 'user_deleted', 'warning',
        jsonb_build_object('subject', admin_delete_user.user_uuid)
    );
    return true;
end
$$;

comment on function public.admin_delete_user(uuid) is
'Deletes a user on behalf of an administrator. P3';

-- Finds users by e-mail, ignoring case, for an administrator (I4, P3).
--
-- The index on lower(email) serves it here, where the definer's policy is `true`.
-- Newest first, at most row_limit. Error: the caller is no administrator.
set local role pandom_definer;

create or replace function public.admin_find_by_email(wanted text, row_limit integer default 100)
returns table (
    uuid uuid,
    email text,
    role public.userrole,
    is_active boolean,
    is_verified boolean,
    created_at timestamptz,
    last_login_at timestamptz,
    tags text[],
    metadata jsonb
)
language plpgsql
stable
security definer
set search_path = ''
as $$
#variable_conflict use_column
begin
    perform public.require_admin();
    return query
    select
        u.uuid, u.email::text, u.role, u.is_active, u.is_verified, u.created_at,
        u.last_login_at, p.tags, p.metadata
    from public.auth_users as u
    left join public.user_profiles as p on u.profile_uuid = p.uuid
    where lower(u.email) = lower(admin_find_by_email.wanted)
    order by u.created_at desc
    limit admin_find_by_email.row_limit;
end
$$;

comment on function public.admin_find_by_email(text, integer) is
'Finds users by e-mail, ignoring case, for an administrator. I4 P3';

-- Finds users whose metadata contain an object, for an administrator (I4, P3).
--
-- The GIN index on metadata serves @> here, where the definer's policy is `true`.
-- Estimates for containment are far too high; a join that reads all accounts is off.
-- Newest first, at most row_limit. Error: the caller is no administrator.
set local role pandom_definer;

create or replace function public.admin_find_by_metadata(
    wanted jsonb, row_limit integer default 100
)
returns table (
    uuid uuid,
    email text,
    role public.userrole,
    is_active boolean,
    is_verified boolean,
    created_at timestamptz,
    last_login_at timestamptz,
    tags text[],
    metadata jsonb
)
language plpgsql
stable
security definer
set search_path = ''
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    perform public.require_admin();
    return query
    select
        u.uuid, u.email::text, u.role, u.is_active, u.is_verified, u.created_at,
        u.last_login_at, p.tags, p.metadata
    from public.auth_users as u
    inner join public.user_profiles as p on u.profile_uuid = p.uuid
    where p.metadata @> admin_find_by_metadata.wanted
    order by u.created_at desc
    limit admin_find_by_metadata.row_limit;
end
$$;

comment on function public.admin_find_by_metadata(jsonb, integer) is
'Finds users whose metadata contain an object, for an administrator. I4 P3';

-- Finds users who carry a tag, for an administrator (I4, P3).
--
-- The GIN index on tags serves @>; under the administrators' policy it could not, for
-- only leakproof operators pass a policy that is not `true`.
-- Estimates for containment are far too high; a join that reads all accounts is off.
-- Newest first, at most row_limit. Error: the caller is no administrator.
set local role pandom_definer;

create or replace function public.admin_find_by_tag(wanted text, row_limit integer default 100)
returns table (
    uuid uuid,
    email text,
    role public.userrole,
    is_active boolean,
    is_verified boolean,
    created_at timestamptz,
    last_login_at timestamptz,
    tags text[],
    metadata jsonb
)
language plpgsql
stable
security definer
set search_path = ''
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
    perform public.require_admin();
    return query
    select
        u.uuid, u.email::text, u.role, u.is_active, u.is_verified, u.created_at,
        u.last_login_at, p.tags, p.metadata
    from public.auth_users as u
    inner join public.user_profiles as p on u.profile_uuid = p.uuid
    where p.tags @> array[admin_find_by_tag.wanted]
    order by u.created_at desc
    limit admin_find_by_tag.row_limit;
end
$$;

comment on function public.admin_find_by_tag(text, integer) is
'Finds users who carry a tag, for an administrator. I4 P3';

-- Activates or deactivates a user on behalf of an administrator (P3).
--
-- Returns whether there is such a user. Errors: the caller is no administrator, or
-- would deactivate itself.
set local role pandom_definer;

create or replace function public.admin_set_active(user_uuid uuid, active boolean)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    if public.require_admin() = admin_set_active.user_uuid and not admin_set_active.active then
        raise exception 'an administrator cannot deactivate itself'
            using errcode = 'invalid_parameter_value';
    end if;
    update public.auth_users as u
    set is_active = admin_set_active.active
    where u.uuid = admin_set_active.user_uuid;
    return found;
end
$$;

comment on function public.admin_set_active(uuid, boolean) is
'Activates or deactivates a user on behalf of an administrator. P3';

-- Changes a user's role on behalf of an administrator (P3).
--
-- Returns whether there is such a user. Errors: the caller is no administrator, or
-- would take its own role away, so that at least one administrator remains.
set local role pandom_definer;

create or replace function public.admin_set_role(user_uuid uuid, role public.userrole)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    if public.require_admin() = admin_set_role.user_uuid and admin_set_role.role <> 'admin' then
        raise exception 'an administrator cannot take its own role away'
            using errcode = 'invalid_parameter_value';
    end if;
    update public.auth_users as u
    set role = admin_set_role.role
    where u.uuid = admin_set_role.user_uuid;
    return found;
end
$$;

comment on function public.admin_set_role(uuid, public.userrole) is
'Changes a user''s role on behalf of an administrator. P3';

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

-- Changes the current user's password (P3).
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
-- Ends all sessions of the user, this one included. Error: a new password out of bounds.
set local role pandom_definer;

create or replace function public.change_password(
    password text, new_password text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        change_password.password, change_password.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    perform public.set_password(
        account.uuid, change_password.new_password, change_password.hash_key
    );
    perform public.send_message('password_changed', account.email, null, interval '7 days');
    perform public.write_event(
        'security_logs', account.uuid, 'password_changed', 'warning', '{}'
    );
    return true;
end
$$;

comment on function public.change_password(text, text, text) is
'Changes the current user''s password and ends its sessions. P3';

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

-- Makes one month's partition of the trail, or returns null where it exists (T3).
--
-- It is made apart and attached, so that writers of other months do not wait for
-- more than a moment. Rows of that month in the default partition: none is made.
set local role pandom_trail;

create or replace function public.create_partition(log text, month timestamptz)
returns text
language plpgsql
set search_path = ''
as $$
declare
    name constant text := create_partition.log
    || to_char(create_partition.month at time zone 'UTC', '"_y"YYYY"m"MM');
    upper_bound constant timestamptz :=
    (create_partition.month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
    strays boolean;
begin
    if to_regclass(format('public.%I', name)) is not null then
        return null;
    end if;
    execute format(
        'select exists (select from public.%I where timestamp >= $1 and timestamp < $2)',
        create_partition.log || '_default'
    ) into strays using create_partition.month, upper_bound;
    if strays then
        return null;
    end if;
    execute format(
        'create table public.%I (like public.%I including defaults including constraints)',
        name, create_partition.log
    );
    perform public.protect_partition(create_partition.log, name);
    execute format(
        'alter table public.%I attach partition public.%I for values from (%L) to (%L)',
        create_partition.log, name, create_partition.month, upper_bound
    );
    perform public.write_event(
        'security_logs', null, 'partition_created', 'info', jsonb_build_object('partition', name)
    );
    return name;
end
$$;

comment on function public.create_partition(text, timestamptz) is
'Makes one month''s partition of the trail; null where it exists. T3';

-- The profile of the current user; the policy of user_profiles asks it (P2).
set local role pandom_definer;

create or replace function public.current_profile_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return (
        select u.profile_uuid
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
    );
end
$$;

comment on function public.current_profile_id() is
'The profile of the current user, or null; the policy of user_profiles asks it. P2';

-- The user on whose behalf the transaction runs; every policy asks it (P2).
--
-- Returns null, which no policy matches, for: no context, an empty one (what an
-- unset value becomes after SET LOCAL), an unknown user, a deactivated one and,
-- where contexts are signed, a signature that is not of this transaction.
-- A malformed uuid is an error. Who may call: whoever a policy applies to.
-- Called as (select current_user_id()) in policies: once per query.
set local role pandom_definer;

create or replace function public.current_user_id()
returns uuid
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
declare
    claimed constant text := current_setting('app.current_user_id', true);
    claimed_uuid uuid;
    signing record;
begin
    if claimed is null or claimed = '' then
        return null;
    end if;
    claimed_uuid := claimed::uuid;
    select k.enforced, k.secret into signing
    from public.auth_users as u
    cross join public.context_key as k
    where u.uuid = claimed_uuid and u.is_active;
    if not found then
        return null;
    end if;
    -- "is not true": a missing signature equals nothing, not even a missing one.
    if signing.enforced
        and (
            current_setting('app.context_signature', true)
            = public.context_signature(
                signing.secret, claimed_uuid, current_setting('app.session_id', true)
            )
        ) is not true
    then
        return null;
    end if;
    return claimed_uuid;
end
$$;

comment on function public.current_user_id() is
'The user of the transaction''s context, or null; every policy asks it. P2';

-- Whether the current user is an active administrator (P2).
--
-- The policies of pandom_admin ask it, so that entering the role by SET LOCAL
-- ROLE gives nothing to anybody else, nor to a former administrator.
set local role pandom_definer;

create or replace function public.current_user_is_admin()
returns boolean
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
begin
    return exists (
        select
        from public.auth_users as u
        where u.uuid = (select public.current_user_id())
            and u.is_active
            and u.role = 'admin'
    );
end
$$;

comment on function public.current_user_is_admin() is
'Whether the current user is an active administrator; policies of pandom_admin ask it. P2';

-- Deactivates the current user's account (P3); the trigger ends its sessions.
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
set local role pandom_definer;

create or replace function public.deactivate_account(password text, hash_key text default null)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        deactivate_account.password, deactivate_account.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    update public.auth_users as u set is_active = false where u.uuid = account.uuid;
    return true;
end
$$;

comment on function public.deactivate_account(text, text) is
'Deactivates the current user''s account and ends its sessions. P3';

-- Deletes the current user's account, profile and sessions (P3); the trail keeps its name.
--
-- Returns false without a context, for a wrong password and for a throttled attempt.
set local role pandom_definer;

create or replace function public.delete_account(password text, hash_key text default null)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        delete_account.password, delete_account.hash_key
    );
    account constant public.auth_users := proof.account;
begin
    if not proof.confirmed then
        return false;
    end if;
    perform public.write_event(
        'security_logs', account.uuid, 'user_deleted', 'warning',
        jsonb_build_object('subject', account.uuid)
    );
    delete from public.auth_users as u where u.uuid = account.uuid;
    return true;
end
$$;

comment on function public.delete_account(text, text) is
'Deletes the current user''s account, profile and sessions. P3';

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

-- Deletes a user's profile together with the user (C1).
set local role pandom_definer;

create or replace function public.delete_profile_of_user()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.user_profiles as p
    where p.uuid = old.profile_uuid;
    return null;
end
$$;

comment on function public.delete_profile_of_user() is
'Trigger: deletes the profile of a deleted user. C1';

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

-- Drops a month of the trail that retention no longer keeps and that was exported (P5).
--
-- The caller states what its export holds; the function recomputes and refuses a
-- difference. Errors: no such partition, still kept, other rows than stated.
set local role pandom_trail;

create or replace function public.drop_partition(name text, row_count bigint, sha256 text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    log text;
    digest record;
begin
    select t.log into log from public.trail_partition(drop_partition.name) as t;
    if not exists (
        select from public.expired_partitions() as e where e = drop_partition.name
    ) then
        raise exception 'partition % is within its retention', drop_partition.name
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- Nobody can add a row between the count and the drop.
    execute format('lock table public.%I in share row exclusive mode', drop_partition.name);
    select d.row_count, d.sha256 into digest
    from public.partition_digest(drop_partition.name) as d;
    if digest.row_count is distinct from drop_partition.row_count
        or digest.sha256 is distinct from drop_partition.sha256
    then
        raise exception 'partition % is not what was exported: it has % rows, digest %',
            drop_partition.name, digest.row_count, digest.sha256
            using errcode = 'data_exception';
    end if;
    perform public.write_event(
        'security_logs', null, 'partition_dropped', 'warning',
        jsonb_build_object(
            'partition', drop_partition.name,
            'rows', digest.row_count,
            'sha256', digest.sha256
        )
    );
    execute format('alter table public.%I detach partition public.%I', log, drop_partition.name);
    execute format('drop table public.%I', drop_partition.name);
end
$$;

comment on function public.drop_partition(text, bigint, text) is
'Drops an expired, exported month of the trail; recomputes what was exported. P5';

-- Makes the partitions of the trail for this month and the months ahead (T3, T5).
--
-- Bounds are months of UTC, whatever the session's time zone. A new partition gets
-- row security, FORCE, its policies and the dump login's SELECT here, because a
-- parent passes none of them on. Rows that fell into the default partition stay
-- there until drain_default(). Returns the names of the partitions made.
set local role pandom_trail;

create or replace function public.ensure_partitions(as_of timestamptz default current_timestamp)
returns setof text
language plpgsql
security definer
set search_path = ''
as $$
declare
    log record;
    made text;
begin
    -- security_logs first: making a partition writes an event into it.
    for log in
        select r.log, r.months_ahead from public.trail_retention as r order by r.log desc
    loop
        for ahead in 0..log.months_ahead loop
            made := public.create_partition(
                log.log,
                (
                    date_trunc('month', as_of at time zone 'UTC')
                    + make_interval(months => ahead)
                ) at time zone 'UTC'
            );
            if made is not null then
                return next made;
            end if;
        end loop;
    end loop;
end
$$;

comment on function public.ensure_partitions(timestamptz) is
'Makes the trail''s partitions for this month and the months ahead. T3 T5';

-- The partitions that retention no longer keeps, oldest first (P5).
set local role pandom_trail;

create or replace function public.expired_partitions(as_of timestamptz default current_timestamp)
returns setof text
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    return query
    select c.relname::text
    from public.trail_retention as r
    inner join pg_catalog.pg_class as p on p.relname = r.log
    inner join pg_catalog.pg_inherits as i on i.inhparent = p.oid
    inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
    where p.relnamespace = 'public'::regnamespace
        and c.relname ~ '_y[0-9]{4}m[0-9]{2}$'
        and (select t.upper_bound from public.trail_partition(c.relname) as t)
        <= (
            date_trunc('month', as_of, 'UTC') at time zone 'UTC'
            - make_interval(months => r.months)
        ) at time zone 'UTC'
    order by right(c.relname, 8), c.relname;
end
$$;

comment on function public.expired_partitions(timestamptz) is
'The partitions that retention no longer keeps, oldest first. P5';

-- Removes a message that the mailer has sent (P3).
set local role pandom_definer;

create or replace function public.finish_message(id bigint)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
begin
    delete from public.outbox as o where o.id = finish_message.id;
    return found;
end
$$;

comment on function public.finish_message(bigint) is
'Removes a message that the mailer has sent. P3';

-- A password's bcrypt hash as the two columns hold it (P1, P3).
--
-- Errors: a password shorter than 12 characters, or longer than the 72 bytes that
-- bcrypt looks at; encryption asked for and no key.
set local role pandom_definer;

create or replace function public.hash_password(
    password text, hash_key text, out clear text, out encrypted bytea
)
language plpgsql
set search_path = ''
as $$
declare
    rules record;
begin
    if coalesce(length(hash_password.password), 0) < 12
        or octet_length(hash_password.password) > 72
    then
        raise exception 'a password must have at least 12 characters and at most 72 bytes'
            using errcode = 'invalid_parameter_value';
    end if;
    select s.bcrypt_cost, s.encrypt_password_hash into strict rules
    from public.account_settings as s;
    clear := public.crypt(hash_password.password, public.gen_salt('bf', rules.bcrypt_cost));
    if rules.encrypt_password_hash then
        if coalesce(hash_password.hash_key, '') = '' then
            raise exception 'password hashes are encrypted: pass hash_key'
                using errcode = 'invalid_parameter_value';
        end if;
        encrypted := public.pgp_sym_encrypt(
            clear, hash_password.hash_key, 'cipher-algo=aes256, compress-algo=0'
        );
        clear := '*';
    end if;
end
$$;

comment on function public.hash_password(text, text) is
'A password''s bcrypt hash, encrypted where the setting says so. P1 P3';

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

-- Turns the prefixes $2b$ and $2y$ of bcrypt into $2a$ (P3).
--
-- The three name the same algorithm, but pgcrypto knows $2a$ only and silently
-- computes DES for the others. Applications that hash themselves write $2b$.
set local role pandom_owner;

create or replace function public.normalise_password_hash()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.password_hash ~ '^\$2[by]\$' then
        new.password_hash := '$2a$' || substr(new.password_hash, 5);
    end if;
    return new;
end
$$;

comment on function public.normalise_password_hash() is
'Trigger: writes bcrypt hashes in the form that pgcrypto verifies. P3';

-- Records that a partition was exported, and where to (P5).
--
-- Error: the partition is not what the export is said to hold.
set local role pandom_trail;

create or replace function public.note_export(
    name text, row_count bigint, sha256 text, place text
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
    digest record;
begin
    select d.row_count, d.sha256 into digest
    from public.partition_digest(note_export.name) as d;
    if digest.row_count is distinct from note_export.row_count
        or digest.sha256 is distinct from note_export.sha256
    then
        raise exception 'partition % is not what was exported: it has % rows, digest %',
            note_export.name, digest.row_count, digest.sha256
            using errcode = 'data_exception';
    end if;
    perform public.write_event(
        'security_logs', null, 'partition_exported', 'info',
        jsonb_build_object(
            'partition', note_export.name,
            'rows', digest.row_count,
            'sha256', digest.sha256,
            'place', left(note_export.place, 512)
        )
    );
end
$$;

comment on function public.note_export(text, bigint, text, text) is
'Records that a partition was exported, and where to. P5';

-- Counts a failed sign-in of an e-mail, existing or not, from an address (P3).
set local role pandom_definer;

create or replace function public.note_failed_attempt(email_digest bytea, address inet)
returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.sign_in_attempts as a (email_digest, address, failures, last_failed_at)
    values (note_failed_attempt.email_digest, note_failed_attempt.address, 1, clock_timestamp())
    on conflict on constraint pk_sign_in_attempts do update
        set failures = a.failures + 1, last_failed_at = excluded.last_failed_at;
end
$$;

comment on function public.note_failed_attempt(bytea, inet) is
'Counts a failed sign-in of an e-mail, existing or not, from an address. P3';

-- Opens a session and a refresh token for a user (T4, P3).
--
-- Both tokens leave the database here, once, in clear; it keeps their digests.
set local role pandom_definer;

create or replace function public.open_session(
    user_uuid uuid,
    out session_token text,
    out session_expires_at timestamptz,
    out refresh_token text,
    out refresh_expires_at timestamptz
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    rules public.account_settings;
begin
    select s.* into strict rules from public.account_settings as s;
    session_token := public.new_token();
    session_expires_at := current_timestamp + rules.session_lifetime;
    refresh_token := public.new_token();
    refresh_expires_at := current_timestamp + rules.refresh_lifetime;
    insert into public.sessions (user_uuid, token, expires_at, ip_address, user_agent)
    values (
        open_session.user_uuid, public.token_digest(open_session.session_token),
        open_session.session_expires_at, public.client_address(), public.client_agent()
    );
    update public.auth_users as u
    set last_login_at = current_timestamp,
        refresh_token = public.token_digest(open_session.refresh_token),
        refresh_token_expires = open_session.refresh_expires_at
    where u.uuid = open_session.user_uuid;
end
$$;

comment on function public.open_session(uuid) is
'Opens a session and a refresh token; the tokens leave the database once. T4 P3';

-- How many rows a partition has, and the digest of what read_partition() gives (P5).
--
-- The digest is the SHA-256 of the lines' SHA-256 digests in order: a plain one over
-- all lines would need the whole partition as one text, and that ends at 1 GB.
set local role pandom_trail;

create or replace function public.partition_digest(
    name text, out row_count bigint, out sha256 text
)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
    select count(*), encode(pg_catalog.sha256(coalesce(
        string_agg(pg_catalog.sha256(convert_to(r.line, 'UTF8')), ''::bytea order by r.number),
        ''::bytea
    )), 'hex')
    into row_count, sha256
    from public.read_partition(partition_digest.name) with ordinality as r (line, number);
end
$$;

comment on function public.partition_digest(text) is
'Rows of a partition and the digest of its export. P5';

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

-- Gives a partition row security, FORCE, policies, the dump login's SELECT and a
-- comment; a parent passes none of them on (P2).
set local role pandom_trail;

create or replace function public.protect_partition(log text, name text)
returns void
language plpgsql
set search_path = ''
as $$
begin
    execute format('alter table public.%I enable row level security', name);
    execute format('alter table public.%I force row level security', name);
    execute format(
        'create policy trail_maintenance on public.%I for all to pandom_trail '
        'using (true) with check (true)', name
    );
    execute format(
        'comment on policy trail_maintenance on public.%I is %L', name,
        'The trail''s owner is under FORCE too; nobody else reaches a partition directly. P2'
    );
    execute format('grant select on public.%I to pandom_user', name);
    execute format(
        'comment on table public.%I is %L', name,
        'A partition of ' || log || '; reached through its parent only. T3'
    );
end
$$;

comment on function public.protect_partition(text, text) is
'Gives a partition row security, FORCE, policies, grants and a comment. P2';

-- A partition's rows as JSON lines, in the order of their numbers, for export (P5).
--
-- The text is canonical: times in UTC, whatever the session's settings.
set local role pandom_trail;

create or replace function public.read_partition(name text)
returns setof text
language plpgsql
stable
security definer
set search_path = ''
set timezone = 'UTC'
set datestyle = 'ISO, YMD'
as $$
begin
    perform public.trail_partition(read_partition.name);
    return query execute format(
        'select to_jsonb(t)::text from public.%I as t order by t.id', read_partition.name
    );
end
$$;

comment on function public.read_partition(text) is
'A partition''s rows as canonical JSON lines, for export. P5';

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

-- Sends a token to the new e-mail that the current user asks for (P3).
--
-- The e-mail changes when verify_email() gets that token. Returns false without a
-- context, for a wrong password and for a throttled attempt; the same true whether or
-- not the new e-mail is taken: its holder gets a message that says so.
set local role pandom_definer;

create or replace function public.request_email_change(
    password text, new_email text, hash_key text default null
)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    proof constant record := public.confirm_password(
        request_email_change.password, request_email_change.hash_key
    );
    account constant public.auth_users := proof.account;
    token constant text := public.new_token();
    lifetime interval;
    taken text;
begin
    if not proof.confirmed then
        return false;
    end if;
    if request_email_change.new_email is null or length(request_email_change.new_email) > 255
        or request_email_change.new_email
        !~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'
    then
        raise exception 'this is not an e-mail address'
            using errcode = 'invalid_parameter_value';
    end if;
    select s.verification_lifetime into strict lifetime from public.account_settings as s;
    select u.email into taken
    from public.auth_users as u
    where lower(u.email) = lower(request_email_change.new_email) and u.uuid <> account.uuid;
    insert into public.email_changes as c (user_uuid, new_email, token, expires_at)
    values (
        account.uuid, request_email_change.new_email, public.token_digest(token),
        current_timestamp + lifetime
    )
    on conflict on constraint pk_email_changes do update
        set new_email = excluded.new_email,
            token = excluded.token,
            expires_at = excluded.expires_at;
    if taken is null then
        perform public.send_message(
            'confirm_new_email', request_email_change.new_email, token, lifetime
        );
    else
        perform public.send_message('already_registered', taken, null, lifetime);
    end if;
    perform public.write_event(
        'security_logs', account.uuid, 'email_change_requested', 'info', '{}'
    );
    return true;
end
$$;

comment on function public.request_email_change(text, text, text) is
'Sends a token to the new e-mail of the current user; verify_email() takes it. P3';

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

-- Stops everybody but an active administrator (P2); the first line of admin_* functions.
--
-- Returns who it is. Error: insufficient_privilege.
set local role pandom_definer;

create or replace function public.require_admin()
returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
    if not public.current_user_is_admin() then
        raise exception 'only an active administrator may do this'
            using errcode = 'insufficient_privilege';
    end if;
    return public.current_user_id();
end
$$;

comment on function public.require_admin() is
'Stops everybody but an active administrator; returns who it is. P2';

-- Makes a new key for signing contexts (P2); open transactions lose their context.
set local role pandom_definer;

create or replace function public.rotate_context_key()
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    update public.context_key as k
    set secret = public.gen_random_bytes(32), created_at = current_timestamp
    where k.only_row;
    perform public.write_event(
        'security_logs', null, 'context_key_rotated', 'warning', '{}'
    );
end
$$;

comment on function public.rotate_context_key() is
'Makes a new key for signing contexts; for the operator. P2';

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

-- Stores a new password of a user, encrypted where the setting says so (P1, P3).
--
-- Ends the user's sessions and withdraws reset and refresh tokens: whoever knew the
-- old password is out. Errors: a password that is too short or longer than bcrypt
-- looks at; encryption without a key.
set local role pandom_definer;

create or replace function public.set_password(
    user_uuid uuid, new_password text, hash_key text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
    fresh constant record := public.hash_password(set_password.new_password, set_password.hash_key);
begin
    update public.auth_users as u
    set password_hash = fresh.clear,
        password_hash_encrypted = fresh.encrypted,
        reset_token = null,
        reset_token_expiry = null,
        refresh_token = null,
        refresh_token_expires = null
    where u.uuid = set_password.user_uuid;
    delete from public.sessions as s
    where s.user_uuid = set_password.user_uuid;
end
$$;

comment on function public.set_password(uuid, text, text) is
'Stores a new password, ends the user''s sessions and withdraws tokens. P1 P3';

-- Keeps updated_at true on every UPDATE, whoever writes (T7).
set local role pandom_owner;

create or replace function public.set_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.updated_at := current_timestamp;
    return new;
end
$$;

comment on function public.set_updated_at() is
'Trigger: sets updated_at to the time of the transaction. T7';

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

-- Whether sign-in for this e-mail from this address has to wait (P3).
--
-- A pair of e-mail and address that failed too often waits, longer each time, up to
-- lock_limit. Failures from many addresses slow down every address from which the
-- owner has not signed in before: a stranger can lock nobody out for good. The
-- answer depends on attempts only, not on whether the e-mail exists.
set local role pandom_definer;

create or replace function public.sign_in_locked(email_digest bytea, address inet)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
declare
    rules public.account_settings;
    pair public.sign_in_attempts;
    everywhere record;
begin
    select s.* into strict rules from public.account_settings as s;
    select a.* into pair
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.address = sign_in_locked.address;
    if pair.failures >= rules.failures_before_lock
        and current_timestamp < pair.last_failed_at + least(
            rules.lock_limit,
            rules.lock_base * power(
                2, least(pair.failures - rules.failures_before_lock, 20)
            )
        )
    then
        return true;
    end if;
    if pair.last_succeeded_at is not null then
        return false;
    end if;
    select sum(a.failures) as failures, max(a.last_failed_at) as last_failed_at
    into everywhere
    from public.sign_in_attempts as a
    where a.email_digest = sign_in_locked.email_digest
        and a.last_failed_at > current_timestamp - interval '1 day';
    return coalesce(
        everywhere.failures >= rules.failures_before_slow
        and current_timestamp < everywhere.last_failed_at + rules.slow_interval,
        false
    );
end
$$;

comment on function public.sign_in_locked(bytea, inet) is
'Whether sign-in for this e-mail from this address has to wait. P3';

-- Ends the session of a token, and its user's refresh token (P3).
--
-- Returns whether there was such a session.
set local role pandom_definer;

create or replace function public.sign_out(session_token text)
returns boolean
language plpgsql
security definer
set search_path = ''
as $$
declare
    owner uuid;
begin
    delete from public.sessions as s
    where s.token = public.token_digest(sign_out.session_token)
    returning s.user_uuid into owner;
    if not found then
        return false;
    end if;
    update public.auth_users as u
    set refresh_token = null, refresh_token_expires = null
    where u.uuid = owner and u.refresh_token is not null;
    perform public.write_event('audit_logs', owner, 'session_ended', 'info', '{}');
    return true;
end
$$;

comment on function public.sign_out(text) is
'Ends the session of a token; whether there was one. P3';

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

-- The table and bounds of a month's partition of the trail (P5).
--
-- Error: there is no such partition, or it is the default one.
set local role pandom_trail;

create or replace function public.trail_partition(
    name text, out log text, out lower_bound timestamptz, out upper_bound timestamptz
)
language plpgsql
stable
set search_path = ''
as $$
begin
    select
        p.relname,
        make_timestamptz(
            substr(c.relname, length(p.relname) + 3, 4)::integer,
            substr(c.relname, length(p.relname) + 8, 2)::integer,
            1, 0, 0, 0, 'UTC'
        )
    into log, lower_bound
    from pg_catalog.pg_inherits as i
    inner join pg_catalog.pg_class as c on i.inhrelid = c.oid
    inner join pg_catalog.pg_class as p on i.inhparent = p.oid
    where p.oid in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)
        and c.relname = trail_partition.name
        and c.relname ~ '_y[0-9]{4}m[0-9]{2}$';
    if not found then
        raise exception 'the trail has no partition %', trail_partition.name
            using errcode = 'invalid_parameter_value';
    end if;
    upper_bound := (lower_bound at time zone 'UTC' + interval '1 month') at time zone 'UTC';
end
$$;

comment on function public.trail_partition(text) is
'The table and bounds of a month''s partition of the trail. P5';

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

-- Whoever changes a role or deactivates an account leaves a trace and ends sessions (T5, P3).
set local role pandom_definer;

create or replace function public.watch_account()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
    actor constant uuid := public.current_user_id();
begin
    if old.role is distinct from new.role then
        perform public.write_event(
            'security_logs', actor, 'role_changed', 'warning',
            jsonb_build_object('subject', new.uuid, 'role', array[old.role, new.role])
        );
    end if;
    if old.is_active is distinct from new.is_active then
        perform public.write_event(
            'security_logs', actor,
            case when new.is_active then 'user_reactivated' else 'user_deactivated' end,
            'warning', jsonb_build_object('subject', new.uuid)
        );
    end if;
    if not new.is_active and old.is_active then
        delete from public.sessions as s where s.user_uuid = new.uuid;
        update public.auth_users as u
        set refresh_token = null, refresh_token_expires = null
        where u.uuid = new.uuid and u.refresh_token is not null;
    end if;
    return null;
end
$$;

comment on function public.watch_account() is
'Trigger: traces role changes and deactivations, ends the sessions of the latter. T5 P3';

-- Writes one event of the database's own into the trail (P4, P5, T5).
--
-- Only the account functions may call it: unlike record_event() it takes the
-- actor and reserved event types as given.
set local role pandom_trail;

create or replace function public.write_event(
    log text, actor uuid, event_type text, severity text, details jsonb
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
    if write_event.log = 'security_logs' then
        insert into public.security_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    else
        insert into public.audit_logs
        (user_uuid, event_type, severity, details, ip_address, user_agent)
        values (
            write_event.actor, write_event.event_type, write_event.severity,
            write_event.details || jsonb_build_object('session_user', session_user),
            public.client_address(), public.client_agent()
        );
    end if;
end
$$;

comment on function public.write_event(text, uuid, text, text, jsonb) is
'Writes an event of the database''s own; for the account functions only. P4 P5';
