-- Finds users by e-mail, ignoring case, for an administrator.
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
'Finds users by e-mail, ignoring case, for an administrator.';
