locals {
  artifact_store = "gs://${google_storage_bucket.artifacts.name}"
}

output "runner" {
  description = "The account that the commands run as."
  value       = google_service_account.onedeal.email
}

output "artifact_store" {
  description = "ONEDEAL_ARTIFACT_STORE where the commands run."
  value       = local.artifact_store
}

output "address" {
  description = "The prediction service's address."
  value       = local.address
}

output "api_key_command" {
  description = "Shows the service's key."
  value       = local.serves ? "gcloud secrets versions access latest --secret=${google_secret_manager_secret.serve["api-key"].secret_id} --project=${var.project}" : null
}
