-- Roles with privileges on rows that no policy guards, and what is missing.
--
-- For logins under row security and all roles that they can become. Superusers, roles with
-- BYPASSRLS and owners have another way in, which the rest of the audit covers. A policy
-- counts only if it names the role or a group whose rights it has, not PUBLIC.
with recursive becomes (login, role) as (
    select r.oid, r.oid
    from pg_catalog.pg_roles as r
    where r.rolcanlogin
    union
    select b.login, m.roleid
    from becomes as b
    inner join pg_catalog.pg_auth_members as m on b.role = m.member
),

beyond (login) as (
    select distinct b.login
    from becomes as b
    inner join pg_catalog.pg_roles as r on b.role = r.oid
    where r.rolsuper or r.rolbypassrls
),

reaching (role, name) as (
    select distinct b.role, r.rolname::text
    from becomes as b
    inner join pg_catalog.pg_roles as r on b.role = r.oid
    where b.login not in (select y.login from beyond as y)
        -- Not predefined roles: their members are listed.
        and r.oid >= 16384
    union all
    select 0::oid, 'PUBLIC'
),

relations as (
    select
        c.oid, c.relkind, c.relowner, c.relrowsecurity, c.relforcerowsecurity,
        coalesce(
            (
                select o.option_value::boolean
                from pg_catalog.pg_options_to_table(c.reloptions) as o
                where o.option_name = 'security_invoker'
            ), false
        ) as invoker,
        case c.relkind
            when 'v' then 'view '
            when 'm' then 'materialized view '
            when 'f' then 'foreign table '
            else 'table '
        end || c.oid::regclass as object
    from pg_catalog.pg_class as c
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
        and c.oid >= 16384
),

held as (
    select c.*, r.role, r.name
    from relations as c
    inner join reaching as r
        on has_table_privilege(
            case r.role when 0 then 'public' else r.name end, c.oid, 'select, insert, update, delete'
        )
        or has_any_column_privilege(
            case r.role when 0 then 'public' else r.name end, c.oid, 'select, insert, update'
        )
    where r.role = 0 or not pg_has_role(r.role, c.relowner, 'usage')
)

select 'row reach' as kind, h.object, h.name as detail, f.missing as value
from held as h
cross join lateral (
    select case
        when h.relkind = 'v' then case when not h.invoker then 'not security_invoker' end
        when h.relkind in ('m', 'f') then 'has no row security'
        when not h.relrowsecurity then 'row security not enabled'
        when not h.relforcerowsecurity then 'row security not forced'
        when not exists (
            select
            from pg_catalog.pg_policy as p
            cross join lateral unnest(p.polroles) as o (role)
            where p.polrelid = h.oid and o.role <> 0 and h.role <> 0
                and pg_has_role(h.role, o.role, 'usage')
        ) then 'no policy that names the role'
    end as missing
) as f
where f.missing is not null;
