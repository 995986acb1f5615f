-- Every view, as schema/sql/views had it at this revision.

-- Failed sign-ins of the last hour (O1); the index on (event_type, timestamp) serves it.
set local role pandom_trail;

create or replace view public.failed_logins_last_hour
with (security_invoker = true) as
select count(*) as failed_logins
from public.audit_logs
where
    event_type = 'login_failed'
    and timestamp > now() - interval '1 hour';

comment on view public.failed_logins_last_hour is
'Number of failed sign-ins of the last hour. O1';

-- Users with more events in the last hour than account_settings allows (O2).
set local role pandom_trail;

create or replace view public.suspicious_activity
with (security_invoker = true) as
select
    user_uuid,
    count(*) as activity_count
from public.audit_logs
where timestamp > now() - interval '1 hour' and user_uuid is not null
group by user_uuid
having
    count(*) > (
        select s.suspicious_events_per_hour
        from public.account_settings as s
    );

comment on view public.suspicious_activity is
'Users with more events in the last hour than the setting allows. O2';
