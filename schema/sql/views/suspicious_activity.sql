-- Users with more events in the last hour than account_settings allows.
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
'Users with more events in the last hour than the setting allows.';
