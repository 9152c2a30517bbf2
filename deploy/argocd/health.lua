-- The health of all kinds of appsockets.io for Argo CD: resource.customizations.health.appsockets.io_<Kind> in argocd-cm.
local health = { status = "Progressing", message = "The operator has not seen this resource yet." }
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
if conditions["Stalled"] ~= nil and conditions["Stalled"].status == "True" then
  return { status = "Degraded", message = conditions["Stalled"].message }
end
if conditions["Paused"] ~= nil and conditions["Paused"].status == "True" then
  return { status = "Suspended", message = conditions["Paused"].message }
end
if ready ~= nil and ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end
if ready ~= nil then
  health.message = ready.message
end
return health
